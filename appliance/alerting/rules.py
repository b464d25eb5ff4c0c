"""What is wrong, by the figures of one moment: the same names, severities and thresholds as appliance-alerts.yml. Pure.

A rule says what holds now; that it must hold for a while before anybody is told is the business of `alerts`.
What is not known is no fault: None matches no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from appliance.alerting.history import History
from appliance.telemetry.snapshot import CertificateFigures, GpuFigures, Severity, Snapshot

UNDELIVERED: Final = "AlertDeliveryFailing"
ENTRY_ENDS: Final = "AllowlistEntryEndsSoon"
RUNBOOK: Final = "docs/OPERATIONS.md"

RESTARTS_MAX: Final = 2
TTFT_SECONDS: Final = 5.0
ERROR_RATIO: Final = 0.05
ERRORS_MIN: Final = 5
QUEUE_SHARE: Final = 0.8
KV_SHARE: Final = 0.95
UNPLANNED_BYTES: Final = 2e9
HOT_CELSIUS: Final = 87
SOON_SECONDS: Final = 21 * 86400.0
CRITICAL_SECONDS: Final = 3 * 86400.0
AUTH_FAILURES_PER_SECOND: Final = 1.0
DISK_BYTES: Final = 5e9
WINDOW_SECONDS: Final = 300.0
XID_SECONDS: Final = 600.0

# Who these belong to renews them; the appliance is well without them.
_OF_OTHERS: Final = ("client", "admin")


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong now. what: which model, GPU or file; the host's name where it is the whole appliance."""

    name: str
    what: str
    severity: Severity
    summary: str


@dataclass(frozen=True, slots=True)
class Moment:
    """What rules look at. undelivered: receivers that cannot be told of alerts, each with the reason."""

    snapshot: Snapshot
    history: History
    undelivered: Mapping[str, str]


# (what, a sentence with the figure)
Finding = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """for_seconds: how long it must hold before it fires. find: what is wrong at a moment."""

    name: str
    severity: Severity
    for_seconds: float
    find: Callable[[Moment], Iterator[Finding]]


def conditions(moment: Moment) -> Iterator[Condition]:
    """Everything that is wrong, at most one Condition for each name and thing."""
    for rule in RULES:
        for what, summary in rule.find(moment):
            yield Condition(rule.name, what, rule.severity, summary)


def runbook_of(name: str) -> str:
    """Where it is said what to do about an alert."""
    return f"{RUNBOOK}#{name.lower()}"


def is_of_somebody(name: str, what: str) -> bool:
    """Whether an alert names a client or its address, an administrator or a receiver: a viewer does not learn of it."""
    of_others = tuple(f"{role} " for role in _OF_OTHERS)
    return name in (UNDELIVERED, ENTRY_ENDS) or (name.startswith("TlsCertificate") and what.startswith(of_others))


def _down(moment: Moment) -> Iterator[Finding]:
    """Only who asks from elsewhere can tell: who evaluates this is up."""
    yield from ()


def _restarting(moment: Moment) -> Iterator[Finding]:
    restarts = moment.history.restarts
    if restarts > RESTARTS_MAX:
        yield moment.snapshot.host_name, f"the daemon has restarted {restarts} times in 15 minutes"


def _not_ready(moment: Moment) -> Iterator[Finding]:
    for model in moment.snapshot.models:
        if model.state == "failed":
            yield model.id, f"model {model.id} cannot serve: {model.reason or 'it failed'}"


def _slow(moment: Moment) -> Iterator[Finding]:
    for model in moment.snapshot.models:
        p95 = None if model.serving is None else model.serving.ttft.p95
        if p95 is not None and p95 > TTFT_SECONDS:
            yield model.id, f"the first token of {model.id} takes {p95:.1f} s (p95 of the last 5 minutes)"


def _errors(moment: Moment) -> Iterator[Finding]:
    for model in moment.snapshot.models:
        if (serving := model.serving) is None or serving.failed < ERRORS_MIN:
            continue
        ratio = serving.failed / (serving.failed + serving.ok)
        if ratio > ERROR_RATIO:
            yield model.id, f"{ratio:.0%} of the requests to {model.id} fail ({serving.failed} in 5 minutes)"


def _backlog(moment: Moment) -> Iterator[Finding]:
    for model in moment.snapshot.models:
        if model.queue_depth_max and model.waiting > QUEUE_SHARE * model.queue_depth_max:
            yield model.id, f"{model.waiting} requests wait for {model.id}; {model.queue_depth_max} may be outstanding"


def _kv_full(moment: Moment) -> Iterator[Finding]:
    for model in moment.snapshot.models:
        if model.kv_used is not None and model.kv_used > KV_SHARE:
            yield model.id, f"the KV cache of {model.id} is {model.kv_used:.0%} full"


def _gpu_gone(moment: Moment) -> Iterator[Finding]:
    snapshot = moment.snapshot
    if snapshot.gpus_expected and snapshot.gpu_trouble is not None:
        yield snapshot.host_name, f"no GPU can be read: {snapshot.gpu_trouble}"
    for gpu in snapshot.gpus:
        if gpu.trouble is not None:
            yield gpu.uuid, f"{_label(snapshot, gpu)} does not answer: {gpu.trouble}"


def _gpu_foreign(moment: Moment) -> Iterator[Finding]:
    snapshot = moment.snapshot
    for gpu in snapshot.gpus:
        unplanned = snapshot.unplanned_bytes(gpu)
        if unplanned is not None and unplanned > UNPLANNED_BYTES:
            yield gpu.uuid, f"{_gib(unplanned)} of {_label(snapshot, gpu)} are held by no loaded model"


def _gpu_hot(moment: Moment) -> Iterator[Finding]:
    for gpu in moment.snapshot.gpus:
        if gpu.temperature_celsius is not None and gpu.temperature_celsius > HOT_CELSIUS:
            yield gpu.uuid, f"{_label(moment.snapshot, gpu)} is at {gpu.temperature_celsius} °C"


def _gpu_xid(moment: Moment) -> Iterator[Finding]:
    for gpu in moment.snapshot.gpus:
        if count := moment.history.increase("xid_errors", gpu.uuid, seconds=XID_SECONDS):
            newest = "" if gpu.newest_xid is None else f", the newest is Xid {gpu.newest_xid}"
            yield gpu.uuid, f"{_label(moment.snapshot, gpu)} reported {_count(count, 'fault')} in 10 minutes{newest}"


def _expires_soon(moment: Moment) -> Iterator[Finding]:
    for certificate in moment.snapshot.certificates:
        if certificate.role != "api_key" and _left(moment, certificate) < SOON_SECONDS:
            yield _whose(certificate), _expiry(moment, certificate)


def _expires_now(moment: Moment) -> Iterator[Finding]:
    for certificate in moment.snapshot.certificates:
        mine = certificate.role not in ("api_key", *_OF_OTHERS)
        if mine and _left(moment, certificate) < CRITICAL_SECONDS:
            yield _whose(certificate), _expiry(moment, certificate)


def _entry_ends(moment: Moment) -> Iterator[Finding]:
    """One that nobody needs may end."""
    for entry in moment.snapshot.allow_ending:
        if entry.addresses:
            many = f"{entry.addresses} address{'' if entry.addresses == 1 else 'es'}"
            yield entry.name, f"the allowlist entry {entry.name} ends within a day and then shuts out {many}"


def _guessing(moment: Moment) -> Iterator[Finding]:
    failures = moment.history.increase("auth_failures", seconds=WINDOW_SECONDS)
    if failures / WINDOW_SECONDS > AUTH_FAILURES_PER_SECOND:
        yield (
            moment.snapshot.host_name,
            f"{failures} requests in 5 minutes were refused for who sent them, or from where",
        )


def _audit_failing(moment: Moment) -> Iterator[Finding]:
    failures = moment.history.increase("audit_write_errors", seconds=WINDOW_SECONDS)
    if failures:
        why = f": {moment.snapshot.audit.trouble[0]}" if moment.snapshot.audit.trouble else ""
        yield moment.snapshot.host_name, f"audit records could not be written {_count(failures, 'time')}{why}"


def _clock(moment: Moment) -> Iterator[Finding]:
    if moment.snapshot.host.clock_synchronized is False:
        yield moment.snapshot.host_name, "the clock is not synchronised"


def _disk(moment: Moment) -> Iterator[Finding]:
    free = moment.snapshot.host.disk_free_bytes
    if free is not None and free < DISK_BYTES:
        yield moment.snapshot.host_name, f"{_gib(free)} are left on the disk of the state directory"


def _undelivered(moment: Moment) -> Iterator[Finding]:
    for receiver, why in moment.undelivered.items():
        yield receiver, f"alerts do not reach {receiver}: {why}"


RULES: Final[tuple[Rule, ...]] = (
    Rule("AppDown", "critical", 60, _down),
    Rule("AppRestarting", "critical", 0, _restarting),
    Rule("ModelNotReady", "critical", 60, _not_ready),
    Rule("HighTimeToFirstToken", "warning", 600, _slow),
    Rule("HighErrorRatio", "critical", 300, _errors),
    Rule("QueueBacklog", "warning", 120, _backlog),
    Rule("KvCacheNearlyFull", "warning", 300, _kv_full),
    Rule("GpuUnavailable", "critical", 30, _gpu_gone),
    Rule("GpuMemoryUnplanned", "warning", 600, _gpu_foreign),
    Rule("GpuHot", "warning", 300, _gpu_hot),
    Rule("GpuXidError", "critical", 0, _gpu_xid),
    Rule("TlsCertificateExpiresSoon", "warning", 0, _expires_soon),
    Rule("TlsCertificateExpiresCritical", "critical", 0, _expires_now),
    Rule(ENTRY_ENDS, "warning", 0, _entry_ends),
    Rule("AuthFailureBurst", "warning", 300, _guessing),
    Rule("AuditLogFailing", "critical", 0, _audit_failing),
    Rule("ClockNotSynchronized", "warning", 3600, _clock),
    Rule("DiskAlmostFull", "warning", 600, _disk),
    Rule(UNDELIVERED, "warning", 60, _undelivered),
)
FOR_SECONDS: Final[Mapping[str, float]] = {rule.name: rule.for_seconds for rule in RULES}


def _left(moment: Moment, certificate: CertificateFigures) -> float:
    return certificate.not_after - moment.snapshot.time


def _expiry(moment: Moment, certificate: CertificateFigures) -> str:
    left, what = _left(moment, certificate), f"the certificate of {_whose(certificate)}"
    if left <= 0:
        return f"{what} has ended"
    days, hours = timedelta(seconds=left).days, int(left % 86400 // 3600)
    return f"{what} ends in {days}d{hours:02}h"


def _whose(certificate: CertificateFigures) -> str:
    """A client and an administrator may have the same name."""
    return f"{certificate.role} {certificate.name}" if certificate.role in _OF_OTHERS else certificate.name


def _label(snapshot: Snapshot, gpu: GpuFigures) -> str:
    """As the dashboard counts them; an instance by its own name."""
    if gpu.parent is not None:
        return f"{gpu.name} ({gpu.uuid})"
    return f"GPU {[each.uuid for each in snapshot.gpus if each.parent is None].index(gpu.uuid)} ({gpu.name})"


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
