"""What the admin API answers to the dashboard's questions, as docs/ADMIN_API.md has it; parsed once, safe to show.

Fields that are not shown are left out. Moments are UTC seconds since 1970.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from appliance.errors import ApplianceError
from appliance.telemetry.request_record import RequestRecord
from tui.ingest import safe

T = TypeVar("T")


class KeyLimits(Struct, frozen=True, kw_only=True):
    """The limits of a key's client, which all of its keys share; None: none."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    concurrent_max: int | None = None


class KeyUsage(Struct, frozen=True, kw_only=True):
    """What a key was used for in the last 24 hours."""

    requests: int
    refused: int
    failed: int
    prompt_tokens: int
    completion_tokens: int


class ApiKeyRow(Struct, frozen=True, kw_only=True):
    """One API key, never its secret. models: that it may use; all where empty."""

    kid: str
    principal: str
    state: str
    label: str = ""
    works_until: str | None = None
    last_used: str | None = None
    successor: str | None = None
    role: str = "inference"
    models: tuple[str, ...] = ()
    limits: KeyLimits = KeyLimits()
    last_day: KeyUsage | None = None


class Certificate(Struct, frozen=True, kw_only=True):
    """One certificate."""

    subject: str
    not_after: str
    fingerprint: str
    names: tuple[str, ...] = ()


class ServerCertificates(Struct, frozen=True, kw_only=True):
    """The places of the server certificate."""

    active: Certificate
    staged: Certificate | None = None
    previous: Certificate | None = None
    requested: bool = False


class Authority(Struct, frozen=True, kw_only=True):
    """One of our authorities. stragglers: who still shows certificates of the one that goes."""

    name: str
    phase: str
    current: Certificate
    successor: Certificate | None = None
    stragglers: tuple[str, ...] = ()


class Issued(Struct, frozen=True, kw_only=True):
    """A certificate that was signed here."""

    kind: str
    name: str
    not_after: str
    state: str
    serial: str = ""


class Certificates(Struct, frozen=True, kw_only=True):
    """All of them."""

    server: ServerCertificates
    authorities: tuple[Authority, ...] = ()
    trusted: tuple[Certificate, ...] = ()
    issued: tuple[Issued, ...] = ()


class AllowEntry(Struct, frozen=True, kw_only=True):
    """One network that may connect; listener: None for every one. until: its end; ended: it lets nobody in any more.

    added_by, added_at: who staged it as it is, and when; empty and None where nobody knows.
    hits: requests of the last day; last_seen: the newest ever; None where none was, or where nothing is counted.
    """

    network: str
    listener: str | None = None
    comment: str = ""
    origin: str = ""
    until: str | None = None
    ended: bool = False
    added_by: str = ""
    added_at: str | None = None
    hits: int | None = None
    last_seen: str | None = None


class StagedEntries(Struct, frozen=True, kw_only=True):
    """What is staged, and does not count yet."""

    add: tuple[AllowEntry, ...] = ()
    remove: tuple[AllowEntry, ...] = ()


class Trial(Struct, frozen=True, kw_only=True):
    """A change that is undone unless it is kept."""

    revert_at: str


class Fenced(Struct, frozen=True, kw_only=True):
    """Networks that the allowlist lets in and IPAddressAllow= of a unit of systemd keeps out."""

    unit: str
    networks: tuple[str, ...]


class Allowlist(Struct, frozen=True, kw_only=True):
    """Who may connect."""

    entries: tuple[AllowEntry, ...] = ()
    staged: StagedEntries = StagedEntries()
    trial: Trial | None = None
    fenced: tuple[Fenced, ...] = ()


class AddressTest(Struct, frozen=True, kw_only=True):
    """Whether an address may connect, by listener."""

    address: str
    now: dict[str, bool]
    staged: dict[str, bool]
    fenced: tuple[Fenced, ...] = ()


class DeniedRow(Struct, frozen=True, kw_only=True):
    """An address that the list has turned away; denied: connections of the last hour."""

    address: str
    listener: str
    denied: int
    last_seen: str


class AuditActor(Struct, frozen=True, kw_only=True):
    """Who acted."""

    principal: str | None = None
    role: str | None = None
    credential: str | None = None
    address: str | None = None
    uid: int | None = None


class AuditRow(Struct, frozen=True, kw_only=True):
    """One record of the audit log."""

    seq: int
    ts: str
    action: str
    outcome: str
    prev: str = ""
    actor: AuditActor = AuditActor()
    resource: str | None = None
    reason: str | None = None
    request_id: str | None = None
    milliseconds: int | None = None
    details: dict[str, str | int] = {}


class StoredModel(Struct, frozen=True, kw_only=True):
    """An imported model. verified: when all hashes were found right last. fault: why it may not be loaded."""

    name: str
    bytes: int
    quantisation: str
    imported: str
    verified: str
    fault: str | None = None


class QuarantinedModel(Struct, frozen=True, kw_only=True):
    """One that took its worker down."""

    name: str
    reason: str
    since: str


class StoreJob(Struct, frozen=True, kw_only=True):
    """Work on a model of the store, under way or ended. bytes_done, bytes_total: of this state."""

    id: str
    kind: str
    name: str
    state: str
    bytes_done: int
    bytes_total: int
    error: str | None = None


class Store(Struct, frozen=True, kw_only=True):
    """All of it."""

    models: tuple[StoredModel, ...] = ()
    quarantined: tuple[QuarantinedModel, ...] = ()
    jobs: tuple[StoreJob, ...] = ()


class Preflight(Struct, frozen=True, kw_only=True):
    """What loading a model now would come to, as `GET /instances/{model}/preflight` says."""

    fits: bool
    waits: bool = False
    evict: tuple[str, ...] = ()
    reason: str | None = None
    host_bytes: int | None = None
    device_bytes: tuple[int, ...] = ()
    layers: int | None = None
    gpu_layers: int | None = None
    tokens_per_second: float | None = None


class RequestPage(Struct, frozen=True, kw_only=True):
    """Requests, newest first. before: for the next page; None where there is none."""

    requests: tuple[RequestRecord, ...]
    before: int | None = None


class UnreadableAnswer(ApplianceError):
    """The appliance answered something else than this dashboard knows: their versions differ."""


def read(kind: type[T], answer: Any) -> T:
    """A plain answer as a struct, or as a tuple of them; safe to show. Raises UnreadableAnswer."""
    try:
        return msgspec.convert(safe(answer, 2000), kind, strict=False)
    except (msgspec.ValidationError, TypeError) as error:
        raise UnreadableAnswer(f"the appliance is of another version than this dashboard: {error}") from error


def moment(text: str | None) -> float | None:
    """A time of an answer."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
