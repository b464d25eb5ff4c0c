"""`appliance models`: model files, from the stick to models.yaml."""

from __future__ import annotations

import base64
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from appliance.admin_client import route
from appliance.cli.common import Appliance, minute, moment, print_facts, print_json, print_table
from appliance.cli.files import read_file
from appliance.cli.layout import amount, size
from appliance.cli.options import REMOTE_ENV, CommandGroup, How, JsonOption, ReasonOption, YesOption
from appliance.errors import ApplianceError, ConfigError
from appliance.gguf.file_types import KNOWN

SIGNATURE_BYTES_MAX: Final = 1024
KEY_BYTES_MAX: Final = 16 * 1024

app = CommandGroup("Models: what is loaded and stored; load, replace, import, quantize, verify, remove, pack.")

NameArgument = Annotated[str, typer.Argument(help="The imported model's name.")]
_STATES: Final = {
    "waiting": "waits",
    "copying": "copying",
    "quantizing": "",
    "trying": "trying it in a worker",
    "hashing": "hashing",
}


@app.command("list")
def show_all(appliance: Appliance, json: JsonOption = False) -> None:
    """List imported models, and what is in quarantine because it took a worker down when it was tried."""
    found = appliance.ask("/store")
    if json:
        print_json(found)
        return
    rows: list[tuple[object, ...]] = [
        (
            model["name"],
            model["architecture"],
            model["quantisation"],
            amount(model["parameters"]),
            model["context_length"],
            size(model["bytes"]),
            _signer(model),
            minute(model["verified"]),
            "damaged" if model["fault"] else "",
        )
        for model in found["models"]
    ]
    rows += [(each["name"], *[""] * 6, minute(each["since"]), "quarantined") for each in found["quarantined"]]
    columns = ("name", "architecture", "quantisation", "weights", "context", "size", "signed by", "verified (UTC)")
    print_table((*columns, "state"), rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="An imported model, or the path of a GGUF file.")],
    appliance: Appliance,
    json: JsonOption = False,
) -> None:
    """Say what a model is: an imported one, or a file anywhere, of which only the header is read.

    Example: appliance models show /media/stick/qwen3-8b-q4_k_m.gguf
    """
    found = _of_file(Path(name)) if "/" in name or name.endswith(".gguf") else appliance.ask(route("store", name))
    if json:
        print_json(found)
    else:
        print_facts(_facts(found))


@app.command("import")
def take(
    path: Annotated[Path, typer.Argument(help="A GGUF file, any part of a split one, or a folder with one model.")],
    appliance: Appliance,
    how: How,
    name: Annotated[str | None, typer.Option(help="What to call it; default: the file's name.")] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file's SHA-256 must be.")] = None,
    signature: Annotated[
        Path | None, typer.Option(help="An Ed25519 signature over the file's line of `sha256sum`.")
    ] = None,
) -> None:
    """Copy a model into the appliance: checked, hashed, and tried in a worker of its own before it counts.

    What takes that worker down goes into quarantine; nothing else notices. Ctrl-C leaves nothing behind.
    Example: appliance models import /media/stick/qwen3-8b-q4_k_m.gguf
    """
    given = None if signature is None else base64.b64encode(read_file(signature, SIGNATURE_BYTES_MAX)).decode()
    body = {"path": str(_real(path)), "name": name, "sha256": sha256, "signature": given}
    with _progress(f"import {path.name}") as look:
        answer = appliance.attend("/store", body, how, look)
    if how.plan:
        typer.echo(f"{answer['name']}: would copy {len(answer['files'])} files, {size(answer['bytes'])}, and try them")
        return
    typer.echo(f"{answer['name']}: imported, {size(answer['bytes'])}{_by(answer)}")
    _say_how_to_serve(answer)


@app.command("quantize")
def quantize(
    name: NameArgument,
    appliance: Appliance,
    how: How,
    to: Annotated[str, typer.Option(help=f"What to make of it: {KNOWN}.")],
    new_name: Annotated[
        str | None, typer.Option("--name", help="What to call it; default: the old name with the new type.")
    ] = None,
    requantize: Annotated[
        bool, typer.Option("--requantize", help="Although its weights are quantised already, which loses quality.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Default: the physical cores but one, which serves.")
    ] = None,
) -> None:
    """Make a smaller model of an imported one, beside it; tried in a worker of its own before it counts.

    It takes minutes; models that are being served go first. Ctrl-C leaves nothing behind. --plan says how large it
    will be and whether it fits.
    Example: appliance models quantize qwen3-8b-f16 --to q4_k_m
    """
    body = {"to": to, "name": new_name, "requantize": requantize, "threads": threads}
    with _progress(f"quantize {name}") as look:
        answer = appliance.attend(route("store", name, "quantize"), body, how, look)
    if how.plan:
        said = (
            f"{answer['name']}: would take about {size(answer['bytes'])}, {name} takes {size(answer['bytes_before'])}"
        )
        print_facts({"model": said, "weights": _types(answer["tensor_types"]), **_room_now(answer)})
        return
    origin = answer["quantized_from"]
    typer.echo(f"{answer['name']}: {answer['quantisation']} of {name}, {size(answer['bytes'])}, not signed")
    typer.echo(f"weights: {_types(origin['tensor_types'])}")
    _say_how_to_serve(answer)


@app.command("verify")
def verify(name: NameArgument, appliance: Appliance) -> None:
    """Hash all files of a model again; a model whose file was touched is loaded again once that succeeds.

    Example: appliance models verify qwen3-8b-q4_k_m
    """
    with _progress(f"verify {name}") as look:
        answer = appliance.attend(route("store", name, "verify"), {}, How(), look)
    typer.echo(f"{name}: whole, {size(answer['bytes'])} verified")


@app.command("remove")
def remove(
    name: NameArgument,
    appliance: Appliance,
    how: How,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="The one in quarantine.")] = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Delete a model's files; refused while it is loaded.

    Example: appliance models remove qwen3-8b-q4_k_m
    """
    question, body = f"Delete the files of {name}?", {"quarantined": quarantined, "reason": reason}
    appliance.act_if_agreed(question, route("store", name, "remove"), body, how, yes=yes)
    typer.echo(f"{name}: {'would be removed' if how.plan else 'removed'}")


@app.command("pack")
def pack(
    path: Annotated[Path, typer.Argument(help="A GGUF file, any part of a split one, or a folder with one model.")],
    sign: Annotated[Path | None, typer.Option(help="The private Ed25519 key to sign with, in PEM.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to make; default: the model's name, here.")] = None,
) -> None:
    """Make a folder to carry to an appliance: the files, their hashes, and a signature. Needs no appliance.

    `openssl genpkey -algorithm ed25519 -out model.key` makes a key; its public half goes into models.signers.
    Example: appliance models pack qwen3-8b-q4_k_m.gguf --sign model.key
    """
    from appliance.model_store.packing import pack_model
    from appliance.model_store.source import open_source

    key = None if sign is None else _signing_key(sign)
    with open_source(_real(path)) as source, _progress(f"pack {source.name}") as look:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            look({"state": "copying", "bytes_done": done, "bytes_total": source.bytes})

        target = Path(source.name) if out is None else out
        try:
            hashes = pack_model(source, target, key, progress)
        except KeyboardInterrupt:
            typer.echo("appliance: interrupted; nothing is left", err=True)
            raise typer.Exit(130) from None
    for name in sorted(hashes):
        typer.echo(f"{hashes[name]}  {name}")
    typer.echo(f"{target}: {'signed' if key else 'not signed'}; carry the folder over and import it", err=True)


def _of_file(path: Path) -> dict[str, Any]:
    """What a file's header says, as the admin API does of an imported one."""
    from appliance.admin.handlers.models import header_view
    from appliance.model_store.source import open_source

    with open_source(_real(path)) as source:
        files = [{"name": file.name, "bytes": file.bytes} for file in source.files]
        return {"name": source.name, "files": files, "bytes": source.bytes, "header": header_view(source.facts)}


_PURPOSES: Final = {"chat": "chat and completions", "embedding": "embeddings", "rerank": "reranking"}


def _facts(found: Mapping[str, Any]) -> dict[str, object]:
    """For people."""
    header = found["header"]
    model = {
        "name": found["name"],
        "title": header["name"],
        "for": _PURPOSES[header["kind"]],
        "pooling": header["pooling"],
        "architecture": header["architecture"],
        "quantisation": header["quantisation"],
        "weights": f"{amount(header['parameters'])}, {size(header['weight_bytes'])}",
        "layers": header["layers"],
        "experts": header["experts"] or None,
        "context": f"{header['context_length']} tokens",
        "sliding_window": header["sliding_window"] or None,
        "vocabulary": header["vocabulary"],
        "license": header["license"] or "not stated",
        "chat_template": _template(header) if header["kind"] == "chat" else None,
    }
    facts: dict[str, object] = {name: value for name, value in model.items() if value is not None}
    if "imported" in found:
        facts["imported"] = f"{moment(found['imported'])} from {found['imported_from']}"
        facts["verified"] = moment(found["verified"])
        facts["signed_by"] = _signer(found) or "nobody"
        facts["path"] = found["path"]
        if origin := found["quantized_from"]:
            facts["quantised_from"] = f"{origin['name']}, sha256 {origin['sha256']}"
            facts["became"] = _types(origin["tensor_types"])
        facts["state"] = found["fault"] or "whole when it was verified"
        facts["files"] = [f"{file['sha256']}  {file['name']}" for file in found["files"]]
        facts |= _room_now(found)
        if found["smaller"]:
            sizes = ", ".join(f"{to} {size(count)}" for to, count in found["smaller"].items())
            facts["smaller"] = f"{sizes}; `appliance models quantize {found['name']} --to TYPE`"
    else:
        facts["files"] = [f"{file['name']}, {size(file['bytes'])}" for file in found["files"]]
    return facts


def _types(types: Mapping[str, int]) -> str:
    """`Q4_K 71 %, Q6_K 28 %, F32 0.1 %`."""
    shares = {kind: 100 * count / max(1, sum(types.values())) for kind, count in types.items()}
    return ", ".join(
        f"{kind} {share:.0f} %" if share >= 10 else f"{kind} {share:.2g} %" for kind, share in shares.items()
    )


def _room_now(found: Mapping[str, Any]) -> dict[str, object]:
    return {"room now": [_room(row) for row in found["fit"]]} if found["fit"] else {}


def _room(row: Mapping[str, Any]) -> str:
    """One line of the table of users and contexts."""
    asked = f"{row['context']} tokens each, {row['cache_type']} cache"
    if not row["users"]:
        return f"no user at {asked}"
    footprint, layers = row["footprint"], f"{row['n_gpu_layers']} of {row['layers']} layers on GPUs"
    taken = [f"{size(footprint['host'])} of host memory"]
    if sum(footprint["devices"]):
        taken += [f"{size(sum(footprint['devices']))} of GPU memory", layers]
    return f"{row['users']} user{'' if row['users'] == 1 else 's'} at {asked}: {', '.join(taken)}"


def _template(header: Mapping[str, Any]) -> str:
    if header["chat_template_sha256"] is None:
        return "none: chat requests are refused"
    return f"{header['chat_template_chars']} characters, sha256 {header['chat_template_sha256']}"


def _say_how_to_serve(answer: Mapping[str, Any]) -> None:
    for file in answer["files"]:
        typer.echo(f"sha256 {file['sha256']}  {file['name']}")
    typer.echo("to serve it, add to models.yaml, then `appliance models apply`:\n", err=True)
    typer.echo(_entry(answer))


def _entry(answer: Mapping[str, Any]) -> str:
    """What models.yaml needs, with a context that most machines have room for."""
    context = min(answer["context_length"] or 8192, 8192)
    return f"  - id: {answer['name']}\n    path: {answer['path']}\n    n_ctx: {context}"


def _signer(found: Mapping[str, Any]) -> str:
    signer = found["signer"]
    return "" if signer is None else f"{signer['name']} {signer['fingerprint'][:16]}"


def _by(found: Mapping[str, Any]) -> str:
    signer = _signer(found)
    return f", signed by {signer}" if signer else ", not signed"


def _real(path: Path) -> Path:
    """Without links on the way, which the appliance does not follow; the last name stays what it is."""
    if os.environ.get(REMOTE_ENV):
        if not path.is_absolute():
            raise ConfigError(f"{path}: the file is on the appliance's host, so say the whole path there")
        return path
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a link itself must stay one
    real = Path(os.path.realpath(absolute.parent)) / absolute.name if absolute.name else absolute
    with contextlib.suppress(PermissionError):
        try:
            real.lstat()
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"{path}: there is no such file") from None
    return real


def _signing_key(path: Path) -> Any:
    from appliance.model_store.signing import parse_signing_key

    pem = read_file(path, KEY_BYTES_MAX)
    try:
        return parse_signing_key(pem, None)
    except TypeError:
        if not sys.stdin.isatty():
            raise ApplianceError(f"{path} needs a passphrase, and there is no terminal to ask for it") from None
    passphrase = typer.prompt(f"passphrase of {path}", hide_input=True, err=True)
    return parse_signing_key(pem, str(passphrase).encode())


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar with rate and time left, on a terminal; elsewhere nothing, for whoever reads wants the end."""
    if not sys.stderr.isatty():
        yield lambda job: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def look(job: Mapping[str, Any]) -> None:
            state = _STATES.get(job["state"], "")
            description = f"{what}: {state}" if state else what
            bar.update(task, completed=job["bytes_done"], total=job["bytes_total"], description=description)

        yield look
