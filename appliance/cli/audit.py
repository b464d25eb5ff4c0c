"""`appliance audit`: read and prove the audit log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from appliance.cli.common import Appliance, point_in_time, print_json
from appliance.cli.files import check_file
from appliance.cli.options import ApprovalOption, CommandGroup, How, JsonOption
from appliance.errors import ConfigError
from appliance.safe_text import safe_text
from appliance.state_dir import write_atomic

app = CommandGroup("The audit log: read it, prove it, take its key away.")

ActionOption = Annotated[str | None, typer.Option("--action", help="Such as key.rotate, or key for all of them.")]
PrincipalOption = Annotated[str | None, typer.Option("--principal", help="Who acted.")]
OutcomeOption = Annotated[str | None, typer.Option("--outcome", help="allow, deny, ok or failed.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="A UTC time such as 2026-11-25T18:00, or 24h, 7d.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="The same.")]
KeyOption = Annotated[
    Path | None, typer.Option("--k0", exists=True, dir_okay=False, help="The file that `audit take-key` wrote.")
]


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


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="The file to write: JSON lines, oldest first.")],
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
    check_file(out)
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


@app.command("verify")
def check(
    appliance: Appliance,
    folder: Annotated[
        Path | None, typer.Option("--folder", exists=True, file_okay=False, help="A copy, with no appliance around it.")
    ] = None,
    k0: KeyOption = None,
    fingerprint: Annotated[str | None, typer.Option(help="Of the first seal key, noted when the log began.")] = None,
    anchor: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="With --folder: the anchor's file.")
    ] = None,
    since: SinceOption = None,
    json: JsonOption = False,
) -> None:
    """Prove that the log was not edited. Exit code 0: whole. 1: tampered, with the place. 2: the end is not sealed yet.

    With the verification key every record's MAC is checked too; without it, hashes, seals and the anchor.
    A copy is verified anywhere: appliance audit verify --folder ./audit-copy --k0 verification.key
    """
    from appliance.audit.keys import VerificationKey
    from appliance.audit.verify import verify

    if anchor is not None and folder is None:
        raise typer.BadParameter("goes with --folder; the appliance knows its own", param_hint="--anchor")
    key, after = None if k0 is None else k0.read_text(), point_in_time(since)
    if folder is not None:
        report = verify(
            folder,
            k0=None if key is None else VerificationKey.decode(key.encode()),
            first_key_fingerprint=fingerprint,
            anchor=anchor,
            since=None if after is None else datetime.fromisoformat(after),
        )
        answer: dict[str, Any] = {"report": msgspec.to_builtins(report), "exit_code": report.exit_code}
    else:
        body = {"verification_key": key, "first_key_fingerprint": fingerprint, "since": after}
        answer = appliance.act("/audit/verify", body)
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
    if out.exists():
        raise ConfigError(f"{out} exists; name another file")
    check_file(out)
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
        f"{report['result']}: {report['records']} records, {report['macs']} of them with their MAC checked, "
        f"in {report['segments']} sealed segments; {report['unsealed']} not sealed yet, "
        f"{report['pruned']} segments pruned"
    )
    for finding in report["findings"]:
        place = " ".join(f"{name} {finding[name]}" for name in ("segment", "line") if finding[name] is not None)
        typer.echo(f"  {place}: {finding['reason']}" if place else f"  {finding['reason']}")
    for note in report["notes"]:
        typer.echo(f"  note: {note}")
