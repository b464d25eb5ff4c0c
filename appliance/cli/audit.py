"""`appliance audit`: read and prove the audit log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from typer.core import TyperCommand

from appliance.cli.common import Appliance, complain, point_in_time, print_json
from appliance.cli.files import check_file, read_file
from appliance.cli.options import ApprovalOption, CommandGroup, How, JsonOption
from appliance.errors import ApplianceError, ConfigError
from appliance.safe_text import safe_text
from appliance.state_dir import write_atomic

app = CommandGroup("The audit log: read it, prove it, take its key away.")

ActionOption = Annotated[str | None, typer.Option("--action", help="Such as key.rotate, or key for all of them.")]
PrincipalOption = Annotated[str | None, typer.Option("--principal", help="Who acted.")]
OutcomeOption = Annotated[str | None, typer.Option("--outcome", help="allow, deny, ok or failed.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="A UTC time such as 2026-11-25T18:00, or 24h, 7d.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="The same.")]
# The exit code of a verification that did not come to a result; those of a result are 0, 1 and 2.
NOT_VERIFIED: Final = 3
_RESULTS: Final = {
    "ok": "whole",
    "incomplete": "whole, its newest records not sealed yet",
    "tampered": "tampered",
}


class _Verify(TyperCommand):
    """A mistyped option must not look like a result."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            error.exit_code = NOT_VERIFIED
            raise


@app.command("tail")
def tail(
    appliance: Appliance,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10_000, help="How many.")] = 20,
    action: ActionOption = None,
    principal: PrincipalOption = None,
    outcome: OutcomeOption = None,
    since: SinceOption = None,
    json: JsonOption = False,
) -> None:
    """Show the newest records, the last one at the bottom.

    Example: appliance audit tail --action key --since 24h
    """
    query = {
        "count": count,
        "action": action,
        "principal": principal,
        "outcome": outcome,
        "since": point_in_time(since),
    }
    found = appliance.ask("/audit/records", **query)
    found.reverse()
    if json:
        print_json(found)
        return
    for record in found:
        typer.echo(safe_text(_line(record)))
    if not found:
        typer.echo("none")


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="The new file to write: JSON lines, oldest first.")],
    appliance: Appliance,
    action: ActionOption = None,
    principal: PrincipalOption = None,
    outcome: OutcomeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
) -> None:
    """Write records to a file, each as it is stored, so that its hash can be checked.

    Example: appliance audit export november.jsonl --since 2026-11-01 --until 2026-12-01
    """
    check_file(out, new=True)
    query = {
        "action": action,
        "principal": principal,
        "outcome": outcome,
        "since": point_in_time(since),
        "until": point_in_time(until),
    }
    answer = appliance.ask("/audit/export", **query)
    write_atomic(out, "".join(line + "\n" for line in answer["lines"]).encode())
    typer.echo(f"{out}: {len(answer['lines'])} records")


@app.command("verify", cls=_Verify)
def check(
    appliance: Appliance,
    folder: Annotated[
        Path | None, typer.Option("--folder", readable=False, help="A copy, with no appliance around it.")
    ] = None,
    k0: Annotated[
        Path | None, typer.Option("--k0", readable=False, help="The file that `audit take-key` wrote.")
    ] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Of the first seal key, noted when the log began.")] = None,
    anchor: Annotated[Path | None, typer.Option(readable=False, help="With --folder: the anchor's file.")] = None,
    since: SinceOption = None,
    json: JsonOption = False,
) -> None:
    """Prove that the log was not edited. Exit code 0: whole. 1: tampered, with the place. 2: whole, but the newest
    records are not sealed yet, which is the rule while the appliance runs. 3: it could not be verified.

    With the verification key every record's MAC is checked too; without it, hashes, seals and the anchor.
    A copy is verified anywhere: appliance audit verify --folder ./audit-copy --k0 verification.key
    """
    try:
        answer = _verified(appliance, folder, k0, fingerprint, anchor, since)
    except ApplianceError as error:
        complain(error)
        raise typer.Exit(NOT_VERIFIED) from error
    if json:
        print_json(answer)
    else:
        _print_report(answer["report"])
    raise typer.Exit(answer["exit_code"])


@app.command("take-key")
def take_key(
    out: Annotated[Path, typer.Argument(help="The file to write, on a medium that leaves this host.")],
    appliance: Appliance,
    approval: ApprovalOption = None,
) -> None:
    """Take the verification key away, once: who has it can check every record, and could forge them, so not here.

    Example: appliance audit take-key /mnt/stick/verification.key
    """
    check_file(out, new=True)
    write_atomic(out, b"")
    try:
        answer = appliance.act("/audit/take-key", how=How(approval=approval))
    except BaseException:
        out.unlink()
        raise
    write_atomic(out, answer["verification_key"].encode())
    typer.echo(
        f"{out}: written, and gone from the appliance. Keep it where administrators of this host cannot read it."
    )


@app.command("head")
def head(appliance: Appliance, json: JsonOption = False) -> None:
    """Show where the chain is now; noted elsewhere, it proves that nothing before it was removed."""
    answer = appliance.ask("/audit/head")
    if json:
        print_json(answer)
    else:
        typer.echo(f"{answer['head']['seq']} {answer['head']['hash']} {answer['head']['ts']}")


def _verified(
    appliance: Appliance,
    folder: Path | None,
    k0: Path | None,
    fingerprint: str | None,
    anchor: Path | None,
    since: str | None,
) -> dict[str, Any]:
    """Report and exit code. Raises ApplianceError where there is none."""
    from appliance.audit.keys import VerificationKey
    from appliance.audit.verify import verify

    if anchor is not None and folder is None:
        raise ConfigError("--anchor goes with --folder; the appliance knows its own")
    key, after = None if k0 is None else VerificationKey.decode(read_file(k0)), point_in_time(since)
    if folder is None:
        text = None if key is None else key.encode().decode()
        body = {"verification_key": text, "first_key_fingerprint": fingerprint, "since": after}
        return dict(appliance.act("/audit/verify", body))
    try:
        _check_holds_log(folder)
        report = verify(
            folder,
            k0=key,
            first_key_fingerprint=fingerprint,
            anchor=anchor,
            since=None if after is None else datetime.fromisoformat(after),
        )
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} cannot be read: {error.strerror}") from error
    return {"report": msgspec.to_builtins(report), "exit_code": report.exit_code}


def _check_holds_log(folder: Path) -> None:
    """Refuses a wrong folder, which has no seal keys either. Raises ConfigError or OSError."""
    from appliance.audit.seal_keys import FILE_NAME
    from appliance.audit.segments import Listing

    if not Listing.of(folder).newest and not (folder / FILE_NAME).exists():
        raise ConfigError(f"{folder} holds no audit log; name the folder `audit` or a copy of it")


def _line(record: dict[str, Any]) -> str:
    """One record as one line: when, who and from where, what, how it went, of what, why."""
    actor = record.get("actor", {})
    who = "@".join(filter(None, (actor.get("principal"), actor.get("address")))) or "-"
    details = [f"{name}={value}" for name, value in record.get("details", {}).items()]
    about = filter(None, (record.get("resource"), record.get("reason"), *details))
    time = f"{record['ts'][:10]} {record['ts'][11:19]}"
    return " ".join((time, who, record["action"], record["outcome"], *about))


def _print_report(report: dict[str, Any]) -> None:
    typer.echo(
        f"{_RESULTS[report['result']]}: {report['records']} records, {report['macs']} of them with their MAC checked, "
        f"in {report['segments']} sealed segments; {report['unsealed']} not sealed yet, "
        f"{report['pruned']} segments pruned"
    )
    for finding in report["findings"]:
        place = " ".join(f"{name} {finding[name]}" for name in ("segment", "line") if finding[name] is not None)
        typer.echo(f"  {place}: {finding['reason']}" if place else f"  {finding['reason']}")
    for note in report["notes"]:
        typer.echo(f"  note: {note}")
