"""What made one answer: its record, what its fingerprint stands for, and what to send to have it again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused, StateError
from appliance.models.version import ModelVersion
from appliance.models.version_store import FILE as VERSIONS
from appliance.models.version_store import read_versions
from appliance.telemetry.request_reader import RequestReader
from appliance.telemetry.request_record import RequestRecord
from appliance.types import SamplingParams

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,140}")
# What the API puts before the request's id in an answer's own.
_PREFIXES: Final = ("chatcmpl-", "cmpl-")


class RequestEvidence(Struct, frozen=True, kw_only=True):
    """version: None where it is not known. replay: what the body needs beside the same prompt, and the settings that
    `record.evidence.withheld` counts; None where nothing was asked of a model.
    """

    record: RequestRecord
    version: ModelVersion | None
    replay: Mapping[str, object] | None


async def show(call: Call) -> Answer:
    """The newest request of an id, which may be the answer's too. Who looks is on record."""
    given = call.match["request_id"]
    if not _ID.fullmatch(given):
        raise ChangeRefused("invalid", f"{given[:140]!r} is no request id; the header X-Request-Id of an answer has it")
    found = await asyncio.to_thread(_find, call.site.requests, call.site.state.store, given)
    if found is None:
        call.office.audit.append(call.event("failed", request_id=given, reason="not_found"))
        raise ChangeRefused(
            "not_found",
            f"the request log has no request {given!r}; it keeps the newest ones alone (request_log in appliance.yaml)",
        )
    call.office.audit.append(call.event("ok", found.record.principal, request_id=found.record.id))
    return call.answer(found)


def _find(requests: RequestReader, folder: Path, given: str) -> RequestEvidence | None:
    """Blocks. Raises StateError."""
    # A client's own id may begin so too.
    ids = {given, *(given.removeprefix(prefix) for prefix in _PREFIXES)}
    record = requests.find(sorted(ids))
    if record is None:
        return None
    try:
        version = read_versions(folder / VERSIONS).get(record.system_fingerprint or "")
    except StateError:
        # The daemon says so at its start.
        version = None
    return RequestEvidence(record=record, version=version, replay=replay_of(record))


def replay_of(record: RequestRecord) -> Mapping[str, object] | None:
    """Fields of a body. All sampling settings are in it, so that the defaults of models.yaml do not count. Pure."""
    asked = record.evidence
    if asked is None:
        return None
    settings: dict[str, object] = {}
    if asked.base_url is None:
        settings = msgspec.to_builtins(SamplingParams())
        for name in ("seed", "logit_bias", "dry_sequence_breakers"):
            del settings[name]
    fields = {"model": record.model, **settings, **asked.sampling, "seed": asked.seed, "max_tokens": asked.max_tokens}
    if asked.n != 1:
        fields["n"] = asked.n
    return {name: value for name, value in fields.items() if value is not None}
