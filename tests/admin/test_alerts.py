"""Alerts through the admin API, on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.admin.handlers.alerts import alerts_without_clients
from appliance.admin_client import AdminError
from appliance.alert_config import Alerts
from appliance.alerting.delivery.outbox import Outbox
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.watch import AlertWatch
from appliance.state_dir import StateDir
from appliance.telemetry.snapshot import AlertFigures, CertificateFigures
from tests.admin.desk import Desk
from tests.unit.alerting.delivery.conftest import SENDER
from tests.unit.alerting.delivery.test_outbox import Fake, Time
from tests.unit.alerting.making import START, snapshot

ENDING = CertificateFigures(name="server", role="server", not_after=START + 86_400)


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
async def watch(state: StateDir, fake: Fake) -> AsyncIterator[AlertWatch]:
    time = Time()
    watch = AlertWatch(state.store / "alerts.json", SENDER, time, Outbox(SENDER, time))
    watch.start(Alerts(), (fake,))
    watch.take(snapshot(START, certificates=(ENDING,)))
    yield watch
    await watch.close()


@pytest.fixture
async def desk(state: StateDir, watch: AlertWatch) -> AsyncIterator[Desk]:
    async with Desk.open(state, alerts=watch) as desk:
        yield desk


async def test_what_is_wrong_and_who_is_told(desk: Desk) -> None:
    async with desk.client() as client:
        found = await client.get("/alerts")
    assert [(one["name"], one["severity"], one["state"]) for one in found["alerts"]] == [
        ("TlsCertificateExpiresCritical", "critical", "firing"),
        ("TlsCertificateExpiresSoon", "warning", "firing"),
    ]
    assert found["alerts"][0]["summary"] == "the certificate of server ends in 1d00h"
    assert found["receivers"][0]["name"] == "fake"
    assert found["silences"] == []


async def test_acked_with_a_note_that_is_in_the_audit_log(desk: Desk) -> None:
    body = {"name": "TlsCertificateExpiresSoon", "what": "server", "note": "ordered"}
    async with desk.client() as client:
        assert (await client.post("/alerts/ack", body, plan=True))["state"] == "firing"
        acked = await client.post("/alerts/ack", body)
        with pytest.raises(AdminError, match="what fires"):
            await client.post("/alerts/ack", {**body, "what": "other"})
        with pytest.raises(AdminError, match="note"):
            await client.post("/alerts/ack", {**body, "note": ""})
    assert (acked["state"], acked["note"]) == ("acked", "ordered")
    assert acked["acked_by"]
    (record,) = [record for record in await desk.records() if record.action == "alert.ack"]
    assert (record.resource, record.details) == ("TlsCertificateExpiresSoon server", {"note": "ordered"})


async def test_silenced_for_a_while(desk: Desk) -> None:
    body = {"name": "GpuHot", "seconds": 600, "reason": "new fans"}
    async with desk.client() as client:
        assert (await client.post("/alerts/silence", body, plan=True))["silences"] == []
        (silence,) = (await client.post("/alerts/silence", body))["silences"]
        with pytest.raises(AdminError, match="there is no alert 'Hot'"):
            await client.post("/alerts/silence", {**body, "name": "Hot"})
        assert (await client.post("/alerts/silence", {**body, "seconds": 0}))["silences"] == []
    assert (silence["until"], silence["reason"]) == (START + 600, "new fans")
    assert await desk.outcomes("alert.silence") == ["allow", "allow"]


async def test_a_test_says_how_each_receiver_took_it(desk: Desk, fake: Fake) -> None:
    async with desk.client() as client:
        assert (await client.post("/alerts/test", plan=True))["receivers"] == [{"name": "fake"}]
        assert (await client.post("/alerts/test"))["receivers"][0]["failure"] is None
        fake.failure = DeliveryError("refused it")
        assert (await client.post("/alerts/test"))["receivers"][0]["failure"] == "refused it"
    assert ["AlertTest/test/test"] in fake.batches
    assert await desk.outcomes("alert.test") == ["allow", "ok", "allow", "failed"]


async def test_without_a_daemon_there_are_none(state: StateDir) -> None:
    async with Desk.open(state) as desk, desk.client() as client:
        with pytest.raises(AdminError, match="no daemon runs here"):
            await client.get("/alerts")


def test_a_viewer_learns_of_no_client() -> None:
    names = (
        ("TlsCertificateExpiresSoon", "client anna"),
        ("AlertDeliveryFailing", "mail mx:25"),
        ("AllowlistEntryEndsSoon", "192.0.2.0/24 (api)"),
        ("GpuHot", "client a"),
    )
    shown = alerts_without_clients(
        AlertFigures(
            name=name, what=what, severity="warning", state="acked", since=START, summary="", acked_by="a", note="b"
        )
        for name, what in names
    )
    assert [(one.name, one.acked_by, one.note) for one in shown] == [("GpuHot", None, None)]
