"""What the admin API shows of the running appliance."""

from __future__ import annotations

import msgspec

from appliance.admin.handlers.telemetry import without_clients
from appliance.state_dir import StateDir
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.snapshot import CertificateFigures, FailureFold, LastAction, Snapshot
from tests.admin.desk import Desk, refused

FAILURE = FailureFold(
    time=2.0,
    first=1.0,
    count=3,
    status=401,
    error_code="invalid_api_key",
    address="10.0.0.1",
    request_id="r1",
    principal="ci",
    key_id="k1",
)
SEEN = Snapshot(
    time=3.0,
    host_name="appliance-01",
    version="1",
    started=0.0,
    failures=(FAILURE,),
    certificates=(
        CertificateFigures(name="server", role="server", not_after=9.0),
        CertificateFigures(name="ci", role="client", not_after=9.0),
    ),
    last_action=LastAction(time=2.0, action="key.revoke", actor="wang", outcome="ok", resource="k1"),
)


async def test_the_newest_snapshot(state: StateDir) -> None:
    async with Desk.open(state, snapshot=lambda: SEEN) as desk, desk.client() as admin:
        assert msgspec.convert(await admin.get("/snapshot"), Snapshot) == SEEN


async def test_without_a_daemon_there_is_none(desk: Desk) -> None:
    async with desk.client() as admin:
        assert (await refused(admin.get("/snapshot"))).code == "conflict"


def test_a_viewer_learns_of_nobody() -> None:
    seen = without_clients(SEEN)
    text = msgspec.json.encode(seen).decode()
    assert not [word for word in ("ci", "k1", "r1", "10.0.0.1", "wang") if f'"{word}"' in text]
    assert (seen.failures[0].count, seen.certificates[0].name) == (3, "server")
    assert seen.last_action is not None and seen.last_action.action == "key.revoke"


async def test_metrics_are_text(state: StateDir) -> None:
    metrics = Metrics([], lambda: SEEN)
    async with Desk.open(state, metrics=metrics) as desk, desk.session() as session:
        answer = await session.get("/admin/v1/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert (await answer.read()) == metrics.text()
