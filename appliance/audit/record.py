"""One audit record: what a caller says, what is stored of it, and the line it becomes. Pure.

A line is `body TAB mac NEWLINE`. The body is canonical JSON: sorted keys, no blanks, ASCII only, so that a line end, a
terminal escape or U+2028 in a client's text stays inside its string. The MAC is 64 hex digits. Records hold no prompt,
answer, key or token of a client.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

import msgspec
from msgspec import Struct

from appliance.safe_text import without_secrets

VERSION: Final = 1
TEXT_CHARS_MAX: Final = 256
DETAILS_MAX: Final = 16
LINE_BYTES_MAX: Final = 128 * 1024
_MAC_CHARS: Final = 64
_INT_MAX: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Outcome = Literal["allow", "deny", "ok", "failed"]
_OUTCOMES: Final = frozenset(get_args(Outcome))


class Actor(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who acted, as far as it is known.

    credential: the id of an API key, or the fingerprint of a certificate; never the secret. uid: of a local
    administrator.
    """

    principal: str | None = None
    role: str | None = None
    credential: str | None = None
    address: str | None = None
    uid: int | None = None


NOBODY: Final = Actor()
APPLIANCE: Final = Actor(principal="appliance")


class AuditEvent(Struct, frozen=True, kw_only=True):
    """What happened. Texts may come from a client as they are: storing them bounds and escapes them.

    action: dotted and stable, `key.rotate`. outcome: `allow` and `deny` are decisions, `ok` and `failed` results.
    reason: a stable word that says why. tokens: prompt and completion. details: DETAILS_MAX entries at most are kept.
    """

    action: str
    outcome: Outcome
    actor: Actor = NOBODY
    resource: str | None = None
    reason: str | None = None
    request_id: str | None = None
    tokens: tuple[int, int] | None = None
    milliseconds: int | None = None
    details: Mapping[str, str | int] = {}


class StoredRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record as the log holds it.

    seq: counts from 1 over all segments. ts: UTC, `2026-01-31T23:59:59.123456Z`. mono: µs since the host started, of
    the start that `boot` names. epoch: which key the MAC is made with. prev: SHA-256 of the body before, hex.
    """

    v: int
    seq: int
    ts: str
    mono: int
    boot: str
    epoch: int
    prev: str
    action: str
    outcome: Outcome
    actor: Actor = NOBODY
    resource: str | None = None
    reason: str | None = None
    request_id: str | None = None
    tokens: tuple[int, int] | None = None
    milliseconds: int | None = None
    details: dict[str, str | int] = {}


class Moment(Struct, frozen=True, gc=False):
    """When something happened, by both clocks. utc: µs since 1970. mono: µs since the host's start named `boot`."""

    utc: int
    mono: int
    boot: str


def to_microseconds(time: datetime) -> int:
    """µs since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def format_time(utc: int) -> str:
    """µs since 1970 as the text in `ts`."""
    second, micros = divmod(utc, 10**6)
    return f"{_format_second(second)}.{micros:06}Z"


@functools.lru_cache(maxsize=16)
def _format_second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def parse_time(ts: str) -> int:
    """The inverse of `format_time`. Raises ValueError for any other text."""
    if len(ts) != 27 or not ts.endswith("Z"):
        raise ValueError(f"{ts!r} is no time of an audit record")
    return to_microseconds(datetime.fromisoformat(ts))


def bounded(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """`text` fit for a record: cut with a mark that tells its length, without DEL, lone surrogates and keys."""
    text = without_secrets(text)
    if len(text) <= chars_max and text.isascii() and "\x7f" not in text:
        return text
    head = text[:chars_max].encode("utf-8", "backslashreplace").decode().replace("\x7f", "\\x7f")
    if len(head) <= chars_max and len(text) <= chars_max:
        return head
    mark = f"...[{len(text)} characters]"
    return head[: chars_max - len(mark)] + mark


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(StoredRecord)


def encode_body(event: AuditEvent, *, seq: int, moment: Moment, epoch: int, prev: str) -> bytes:
    """The canonical body of the record of `event`. An event of wrong types becomes an `audit.malformed` record."""
    try:
        return _encode(event, seq, moment, epoch, prev)
    except Exception as error:
        # Whatever a caller got wrong: one event must not cost the log those after it.
        about = {"action": bounded(repr(getattr(event, "action", event))), "error": bounded(repr(error))}
        malformed = AuditEvent(action="audit.malformed", outcome="failed", actor=APPLIANCE, details=about)
        return _encode(malformed, seq, moment, epoch, prev)


def decode_body(body: bytes) -> StoredRecord:
    """Raises ValueError for anything but a record."""
    try:
        return _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def join_line(body: bytes, mac: bytes) -> bytes:
    """The line of a record."""
    return b"%b\t%b\n" % (body, mac.hex().encode())


def split_line(line: bytes) -> tuple[bytes, bytes] | None:
    """Body and MAC (in hex) of a whole line with its newline; None where it has another form."""
    body, tab, mac = line[:-1].rpartition(b"\t")
    if not tab or len(mac) != _MAC_CHARS or line[-1:] != b"\n":
        return None
    return body, mac


def canonical(value: object) -> bytes:
    """Any struct or JSON value as canonical JSON. Raises ValueError or TypeError."""
    body = _ENCODER.encode(value)
    if body.isascii():
        return body
    return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode("ascii")


def _encode(event: AuditEvent, seq: int, moment: Moment, epoch: int, prev: str) -> bytes:
    tokens = event.tokens
    if event.outcome not in _OUTCOMES:
        raise ValueError(f"{event.outcome!r} is no outcome")
    return canonical(
        StoredRecord(
            v=VERSION,
            seq=seq,
            ts=format_time(moment.utc),
            mono=moment.mono,
            boot=moment.boot,
            epoch=epoch,
            prev=prev,
            action=bounded(event.action, 64),
            outcome=event.outcome,
            actor=_bounded_actor(event.actor),
            resource=None if event.resource is None else bounded(event.resource),
            reason=None if event.reason is None else bounded(event.reason),
            request_id=None if event.request_id is None else bounded(event.request_id),
            tokens=None if tokens is None else (_whole(tokens[0]), _whole(tokens[1])),
            milliseconds=None if event.milliseconds is None else _whole(event.milliseconds),
            details=_bounded_details(event.details) if event.details else {},
        )
    )


def _bounded_actor(actor: Actor) -> Actor:
    if actor is NOBODY or actor is APPLIANCE:
        return actor
    return Actor(
        principal=None if actor.principal is None else bounded(actor.principal),
        role=None if actor.role is None else bounded(actor.role),
        credential=None if actor.credential is None else bounded(actor.credential),
        address=None if actor.address is None else bounded(actor.address),
        uid=None if actor.uid is None else _whole(actor.uid),
    )


def _bounded_details(details: Mapping[str, str | int]) -> dict[str, str | int]:
    kept: dict[str, str | int] = {}
    for number, (name, value) in enumerate(details.items()):
        if number == DETAILS_MAX - 1 and len(details) > DETAILS_MAX:
            kept["..."] = f"{len(details) - number} more"
            break
        kept[bounded(name, 64)] = bounded(value) if isinstance(value, str) else _whole(value)
    return kept


def _whole(number: int) -> int:
    return max(-_INT_MAX, min(int(number), _INT_MAX))
