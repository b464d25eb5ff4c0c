"""appliance.alerting.rules: each rule just below and just above its threshold."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.alerting.history import History
from appliance.alerting.rules import RULES, Moment, conditions, runbook_of
from appliance.telemetry.snapshot import (
    AllowEntryFigures,
    AuditFigures,
    CertificateFigures,
    DeviceShare,
    GpuFigures,
    HostFigures,
    Snapshot,
)
from tests.unit.alerting.making import START, model, serving, snapshot

DAY = 86_400.0
NOW = START + 1000


def found(*snapshots: Snapshot, starts: tuple[float, ...] = (), undelivered: dict[str, str] | None = None) -> list[Any]:
    history = History(starts)
    for each in snapshots:
        history.add(each)
    return [(one.name, one.what, one.summary) for one in conditions(Moment(snapshots[-1], history, undelivered or {}))]


def gpu(**more: Any) -> GpuFigures:
    return GpuFigures(**{"uuid": "GPU-1", "name": "H100", "total_bytes": 80 * 2**30, **more})


def certificate(left: float, role: Any = "server") -> CertificateFigures:
    return CertificateFigures(name="server", role=role, not_after=NOW + left)


WELL = snapshot(
    NOW,
    host=HostFigures(clock_synchronized=True, disk_free_bytes=5 * 10**9),
    gpus=(gpu(used_bytes=2 * 10**9, temperature_celsius=87, xid_errors=3),),
    models=(
        model(
            waiting=51, queue_depth_max=64, kv_used=0.95, serving=serving(ttft_p95=5.0, failed=4, ok=10),
            devices=(DeviceShare(gpu="GPU-1", weights_bytes=10),),
        ),
        model(id="quiet", state="stopped"),
    ),
    certificates=(certificate(21 * DAY), certificate(DAY, "api_key")),
    allow_ending=(AllowEntryFigures(name="192.0.2.0/24", until=NOW + 1),),
    auth_failures=7,
    gpu_trouble="no driver",
)  # fmt: skip


def test_an_appliance_that_is_well_has_none() -> None:
    assert found(WELL) == []
    assert found(snapshot(NOW)) == []


ILL = [
    ("ModelNotReady", "qwen", {"models": (model(state="failed", reason="it is damaged"),)}, "it is damaged"),
    ("HighTimeToFirstToken", "qwen", {"models": (model(serving=serving(ttft_p95=5.1)),)}, "5.1 s"),
    ("HighErrorRatio", "qwen", {"models": (model(serving=serving(failed=6, ok=94)),)}, "6% of"),
    ("QueueBacklog", "qwen", {"models": (model(waiting=52, queue_depth_max=64),)}, "52 requests wait"),
    ("KvCacheNearlyFull", "qwen", {"models": (model(kv_used=0.96),)}, "96% full"),
    ("GpuUnavailable", "box", {"gpus_expected": True, "gpu_trouble": "no driver"}, "no driver"),
    ("GpuUnavailable", "GPU-1", {"gpus": (gpu(trouble="GPU is lost"),)}, "GPU 0 (H100) does not answer: GPU is lost"),
    ("GpuMemoryUnplanned", "GPU-1", {"gpus": (gpu(used_bytes=3 * 2**30),)}, "3.0 GiB"),
    ("GpuHot", "GPU-1", {"gpus": (gpu(temperature_celsius=88),)}, "88 °C"),
    ("TlsCertificateExpiresSoon", "server", {"certificates": (certificate(20.5 * DAY),)}, "20d12h"),
    (
        "TlsCertificateExpiresSoon",
        "client server",
        {"certificates": (certificate(-1, "client"),)},
        "has ended",
    ),
    (
        "AllowlistEntryEndsSoon",
        "192.0.2.0/24 (api)",
        {"allow_ending": (AllowEntryFigures(name="192.0.2.0/24 (api)", until=NOW + DAY, addresses=2),)},
        "ends within a day and then shuts out 2 addresses",
    ),
    ("ClockNotSynchronized", "box", {"host": HostFigures(clock_synchronized=False)}, "not synchronised"),
    ("DiskAlmostFull", "box", {"host": HostFigures(disk_free_bytes=4 * 2**30)}, "4.0 GiB are left"),
]


@pytest.mark.parametrize(("name", "what", "figures", "says"), ILL)
def test_what_is_wrong_is_said_with_its_figure(name: str, what: str, figures: dict[str, Any], says: str) -> None:
    ((found_name, found_what, summary),) = found(snapshot(NOW, **figures))
    assert (found_name, found_what) == (name, what)
    assert says in summary


def test_a_certificate_of_ours_in_its_last_days_is_both() -> None:
    names = [name for name, _, _ in found(snapshot(NOW, certificates=(certificate(2.5 * DAY),)))]
    assert names == ["TlsCertificateExpiresSoon", "TlsCertificateExpiresCritical"]


def test_what_grows_is_compared_with_what_it_was() -> None:
    before = snapshot(NOW - 200, audit=AuditFigures(failures=1), auth_failures=1000, gpus=(gpu(xid_errors=3),))
    after = snapshot(
        NOW,
        audit=AuditFigures(failures=2, trouble=("the disk is full",)),
        auth_failures=1301,
        gpus=(gpu(xid_errors=4, newest_xid=79),),
    )
    assert found(before) == []
    (xid, auth, audit) = found(before, after)
    assert xid == ("GpuXidError", "GPU-1", "GPU 0 (H100) reported 1 fault in 10 minutes, the newest is Xid 79")
    assert auth[0] == "AuthFailureBurst"
    assert "301 requests" in auth[2]
    assert audit == ("AuditLogFailing", "box", "audit records could not be written 1 time: the disk is full")


def test_restarts_and_receivers() -> None:
    assert found(snapshot(START), starts=(START - 900, START - 300)) == []
    ((name, _, summary),) = found(snapshot(START), starts=(START - 900, START - 300, START - 200))
    assert (name, summary) == ("AppRestarting", "the daemon has restarted 3 times in 15 minutes")
    ((name, what, summary),) = found(snapshot(START), undelivered={"mail mx:25": "refused it"})
    assert (name, what, summary) == ("AlertDeliveryFailing", "mail mx:25", "alerts do not reach mail mx:25: refused it")


def test_of_a_gpu_in_instances_each_is_looked_at_by_itself() -> None:
    whole = gpu(used_bytes=40 * 2**30)
    one = gpu(uuid="MIG-1", name="MIG 3g.40gb", parent="GPU-1", used_bytes=30 * 2**30)
    served = model(devices=(DeviceShare(gpu="MIG-1", weights_bytes=29 * 2**30),))
    assert found(snapshot(NOW, gpus=(whole, one), models=(served,))) == []
    ((_, what, summary),) = found(snapshot(NOW, gpus=(whole, one)))
    assert what == "MIG-1"
    assert summary == "30.0 GiB of MIG 3g.40gb (MIG-1) are held by no loaded model"


def test_names_are_unique_and_lead_to_the_runbook() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert runbook_of(RULES[0].name) == "docs/OPERATIONS.md#appdown"
