"""The audit log, for auditors: read, prove, take its key away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta, Struct

from appliance.admin.large_answer import large_answer
from appliance.admin.route import Answer, Call
from appliance.audit.keys import VerificationKey
from appliance.audit.read import RecordFilter, export, tail
from appliance.audit.record import Outcome
from appliance.audit.verify import Report, verify
from appliance.errors import ChangeRefused

TAIL_MAX: Final = 10_000
EXPORT_BYTES_MAX: Final = 128 * 2**20


class Verify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """verification_key: what `take-key` gave; without it the MACs are not checked.

    since: of segments that ended before it, only the seals are checked.
    """

    verification_key: str | None = None
    first_key_fingerprint: str | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None


async def records(call: Call) -> Answer:
    """The newest records that pass the filter, newest first."""
    count, wanted = call.number("count", 100, TAIL_MAX), _filter(call)
    found = await asyncio.to_thread(tail, call.site.state.audit, call.site.keyring.cipher("audit"), wanted, count)
    call.office.audit.append(call.event("ok"))
    return call.answer(found)


async def export_records(call: Call) -> Answer:
    """The stored bodies of the records that pass the filter, oldest first: their hashes can be checked elsewhere."""
    wanted = _filter(call)

    def lines() -> Iterator[str]:
        size = 0
        for line in export(call.site.state.audit, call.site.keyring.cipher("audit"), wanted):
            size += len(line)
            if size > EXPORT_BYTES_MAX:
                raise ChangeRefused(
                    "invalid",
                    f"more than {EXPORT_BYTES_MAX // 2**20} MiB; take a shorter time with --since and --until",
                )
            yield line.decode().rstrip("\n")

    body = await asyncio.to_thread(large_answer, "lines", lines())
    call.office.audit.append(call.event("ok"))
    return call.answer(body)


async def head(call: Call) -> Answer:
    """Where the chain is now, for an anchor elsewhere: a photograph of it proves what came before."""
    audit = call.office.audit
    return call.answer({"head": audit.head, "counters": audit.counters, "degraded": audit.degraded})


async def check(call: Call) -> Answer:
    """Verifies the whole log where it lies. A copy can be verified anywhere: `appliance audit verify --folder`."""
    asked = call.parsed(Verify)
    k0 = None if asked.verification_key is None else VerificationKey.decode(asked.verification_key.encode())

    def work() -> Report:
        return verify(
            call.site.state.audit,
            cipher=call.site.keyring.cipher("audit"),
            k0=k0,
            first_key_fingerprint=asked.first_key_fingerprint,
            anchor=call.office.audit.anchor,
            since=asked.since,
        )

    report = await asyncio.to_thread(work)
    outcome: Outcome = "failed" if report.result == "tampered" else "ok"
    call.office.audit.append(call.event(outcome, reason=report.result))
    return call.answer({"report": report, "exit_code": report.exit_code})


async def take_key(call: Call) -> Answer:
    """Hands the verification key over, once; from then on it is not here any more."""
    audit = call.office.audit
    if not audit.verification_key_is_here:
        raise ChangeRefused("conflict", "the verification key was taken away before; it is not here any more")
    await audit.append_durably(call.event("allow"))
    return call.answer({"verification_key": audit.take_verification_key().decode()})


def _filter(call: Call) -> RecordFilter:
    outcome = call.query.get("outcome")
    if outcome is not None and outcome not in get_args(Outcome):
        raise ChangeRefused("invalid", f"outcome: expected one of {', '.join(get_args(Outcome))}")
    given = {name: call.query.get(name) for name in ("action", "principal", "outcome")}
    times = {name: call.time(name) for name in ("since", "until")}
    return msgspec.convert(
        {name: value for name, value in {**given, **times}.items() if value is not None}, RecordFilter
    )
