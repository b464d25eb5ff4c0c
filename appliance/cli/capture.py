"""`appliance capture`: what was kept of prompts and answers, for auditors."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any, Final

import msgspec
import typer

from appliance.admin_client import route
from appliance.cli.audit import SinceOption
from appliance.cli.common import Appliance, moment, point_in_time, print_json, print_table
from appliance.cli.options import CommandGroup, JsonOption
from appliance.safe_text import safe_lines, safe_text

# What is somebody's text begins with this, so that nobody can write a line that looks like one of ours.
_MARGIN: Final = "  | "

app = CommandGroup("Captured prompts and answers; `capture` in appliance.yaml turns it on.")


@app.command("list")
def index(
    appliance: Appliance,
    principal: Annotated[str | None, typer.Option("--principal", help="Whose requests.")] = None,
    since: SinceOption = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="How many.")] = 20,
    json: JsonOption = False,
) -> None:
    """List captured requests, newest first, without their text. The audit log gets a record of it.

    Example: appliance capture list --principal dify --since 24h
    """
    query = {"principal": principal, "since": point_in_time(since), "count": count}
    found = appliance.ask("/capture", **query)
    if json:
        print_json(found)
        return
    print_table(
        ("time", "client", "model", "request id", "end", "bytes", "cut"),
        (
            (
                moment(head["time"]),
                head["principal"],
                head["model"],
                head["request_id"],
                _end(head),
                f"{head['prompt_bytes']}+{head['answer_bytes']}",
                head["bytes_cut"] or "",
            )
            for head in found["records"]
        ),
    )
    _warn(found)


@app.command("show")
def show(
    request_id: Annotated[str, typer.Argument(help="As `capture list`, the request log or X-Request-Id has it.")],
    appliance: Appliance,
    json: JsonOption = False,
) -> None:
    """Show prompt and answers of a request. The audit log gets a record of who looked, before anything is shown.

    Example: appliance capture show 0f8e2c6a5b
    """
    found = appliance.ask(route("capture", request_id))
    if json:
        print_json(found)
        return
    for captured in found["records"]:
        head, content = captured["head"], captured["content"]
        about = (moment(head["time"]), head["principal"], head["model"], head["endpoint"], _end(head))
        typer.echo(safe_text(" ".join(about), 1024))
        typer.echo("prompt:")
        _print(_readable(content["prompt"]), content["prompt_bytes_cut"])
        for number, choice in enumerate(content["choices"]):
            typer.echo(f"answer {number} ({choice['reason'] or 'not finished'}):")
            _print(choice["text"], choice["bytes_cut"])
    _warn(found)


def _print(text: str, bytes_cut: int) -> None:
    typer.echo(textwrap.indent(safe_lines(text), _MARGIN, lambda line: True))
    if bytes_cut:
        typer.echo(f"  [cut: {bytes_cut} bytes are not kept]")


def _readable(prompt: str) -> str:
    """A chat as its turns, a plain prompt as its text; whatever else it is, as it was received."""
    try:
        received = msgspec.json.decode(prompt)
    except (msgspec.DecodeError, RecursionError):
        return prompt
    if isinstance(received, str):
        return received
    if isinstance(received, list) and all(_is_plain_turn(turn) for turn in received):
        return "\n".join(f"[{turn['role']}] {turn['content']}" for turn in received)
    return msgspec.json.format(prompt, indent=2)


def _is_plain_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.keys() == {"role", "content"} and isinstance(turn["content"], str)


def _end(head: dict[str, Any]) -> str:
    return str(head["error_code"] or head["finish_reason"] or head["outcome"])


def _warn(found: dict[str, Any]) -> None:
    if found["more"]:
        typer.echo("there are more", err=True)
    if found["damaged"]:
        typer.echo(f"{found['damaged']} records are damaged and cannot be read", err=True)
