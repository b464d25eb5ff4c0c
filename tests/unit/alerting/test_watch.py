"""appliance.alerting.watch and alert_book: scripted Snapshots, the real file, receivers that a test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.alert_config import Alerts
from appliance.alerting.alert_book import SILENCES_MAX, AlertBook
from appliance.alerting.alerts import Silence
from appliance.alerting.delivery.outbox import Outbox
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.watch import AlertWatch
from appliance.errors import ChangeRefused
from appliance.telemetry.snapshot import CertificateFigures, Snapshot
from tests.unit.alerting.delivery.conftest import SENDER
from tests.unit.alerting.delivery.test_outbox import Fake, Time, settled
from tests.unit.alerting.making import START, model, snapshot
from tests.waiting import until

ENDING = CertificateFigures(name="server", role="server", not_after=START + 86_400)


class Box:
    """One appliance whose daemon may start several times."""

    def __init__(self, path: Path) -> None:
        self.path = path / "alerts.json"
        self.time = Time()
        self.fake = Fake()
        self.started = 0.0

    @asynccontextmanager
    async def daemon(self, settings: Alerts | None = None) -> AsyncIterator[AlertWatch]:
        self.started = self.time.now
        self.outbox = Outbox(SENDER, self.time, backoff=(0.001, 0.002))
        watch = AlertWatch(self.path, SENDER, self.time, self.outbox)
        watch.start(settings or Alerts(), (self.fake,))
        yield watch
        await watch.close()

    async def see(self, watch: AlertWatch, seconds: int, step: int = 10, **figures: object) -> None:
        """So many seconds of the same."""
        for _ in range(0, seconds, step):
            self.time.now += step
            watch.take(self.snapshot(**figures))
        if self.fake.failure is None:
            await settled(self.outbox)

    def snapshot(self, **figures: object) -> Snapshot:
        return snapshot(self.time.now, started=self.started, **figures)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def states(watch: AlertWatch) -> list[str]:
    return [f"{one.name} {one.what} {one.state}" for one in watch.figures()]


async def test_from_a_snapshot_to_a_receiver(box: Box) -> None:
    failed = (model(state="failed", reason="it is damaged"),)
    async with box.daemon() as watch:
        await box.see(watch, 60, models=failed)
        assert states(watch) == ["ModelNotReady qwen pending"]
        await box.see(watch, 10, models=failed)
        assert states(watch) == ["ModelNotReady qwen firing"]
        await box.see(watch, 3600, models=failed)
        await box.see(watch, 80)
        assert states(watch) == ["ModelNotReady qwen resolved"]
        await box.see(watch, 3700)
        assert states(watch) == []
        assert len(watch.figures(86_400)) == 1
    assert box.fake.batches == [["ModelNotReady/qwen/firing"], ["ModelNotReady/qwen/resolved"]]


async def test_nothing_is_told_twice_over_a_restart(box: Box) -> None:
    async with box.daemon() as watch:
        await box.see(watch, 100, certificates=(ENDING,))
        acked = watch.ack("TlsCertificateExpiresSoon", "server", "anna", "ordered")
        assert (acked.state, acked.note) == ("acked", "ordered")
        watch.silence("GpuHot", "", 3600, "anna", "new fans")
    told = len(box.fake.batches[0])
    async with box.daemon() as watch:
        await box.see(watch, 100, certificates=(ENDING,))
        assert states(watch) == [
            "TlsCertificateExpiresCritical server firing",
            "TlsCertificateExpiresSoon server acked",
        ]
        assert [silence.name for silence in watch.silences] == ["GpuHot"]
    assert told == 2
    assert len(box.fake.batches) == 1
    async with box.daemon() as watch:
        await box.see(watch, 100)
    assert [sorted(batch) for batch in box.fake.batches[1:]] == [
        ["TlsCertificateExpiresCritical/server/resolved", "TlsCertificateExpiresSoon/server/resolved"]
    ]


async def test_what_could_not_be_told_is_told_after_a_restart(box: Box) -> None:
    box.fake.failure = DeliveryError("is away")
    async with box.daemon() as watch:
        await box.see(watch, 100, certificates=(ENDING,))
        await until(lambda: watch.degraded() == ["alerts do not reach fake: is away"])
    box.fake.failure = None
    async with box.daemon() as watch:
        await box.see(watch, 10, certificates=(ENDING,))
    assert [len(batch) for batch in box.fake.batches] == [2]


async def test_a_receiver_that_is_away_is_an_alert(box: Box) -> None:
    box.fake.failure = DeliveryError("is away")
    async with box.daemon() as watch:
        await box.see(watch, 10, certificates=(ENDING,))
        while not watch.degraded():
            await box.see(watch, 1, 1, certificates=(ENDING,))
            await asyncio.sleep(0.002)
        await box.see(watch, 100, certificates=(ENDING,))
        assert "AlertDeliveryFailing fake firing" in states(watch)
        assert watch.receivers[0].waiting == 2


async def test_restarts_are_counted_over_restarts(box: Box) -> None:
    for _ in range(5):
        async with box.daemon() as watch:
            await box.see(watch, 20)
    assert states(watch) == ["AppRestarting box firing"]
    assert "restarted 4 times" in watch.figures()[0].summary


async def test_only_what_is_on_can_be_acked_and_silences_are_bounded(box: Box) -> None:
    async with box.daemon() as watch:
        await box.see(watch, 20, certificates=(ENDING,))
        with pytest.raises(ChangeRefused, match=r"what fires: .*TlsCertificateExpiresSoon server"):
            watch.ack("GpuHot", "g0", "anna", "a")
        with pytest.raises(ChangeRefused, match="no alert"):
            watch.check_on("GpuHot", "g0")
        for number in range(SILENCES_MAX):
            watch.silence("GpuHot", f"g{number}", 60, "anna", "a")
        with pytest.raises(ChangeRefused, match="end one first"):
            watch.silence("GpuHot", "another", 60, "anna", "a")
        watch.silence("GpuHot", "g0", 0, "anna", "a")
        watch.silence("GpuHot", "another", 60, "anna", "a")
        box.time.now += 61
        assert watch.silences == ()


async def test_a_reload_takes_other_receivers_and_leaves_the_same(box: Box) -> None:
    async with box.daemon() as watch:
        await box.see(watch, 10, certificates=(ENDING,))
        other = Fake("other")
        watch.reconfigure(Alerts(), (other,))
        assert [one.name for one in watch.receivers] == ["fake"]
        watch.reconfigure(Alerts(repeat_hours=1.0), (other,))
        assert [one.name for one in watch.receivers] == ["other"]
        await box.see(watch, 3700, 100, certificates=(ENDING,))
        assert [len(batch) for batch in other.batches] == [2]
        assert (await watch.test("anna"))[0].failure is None


def test_a_damaged_file_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "alerts.json"
    path.write_text('{"alerts": 5}')
    path.chmod(0o600)
    assert AlertBook(path).figures(START, 60) == ()
    assert "cannot be read" in caplog.text


async def test_the_file_is_written_when_something_has_changed_and_not_for_a_figure(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    book = AlertBook(path)
    book.silence(Silence(name="GpuHot", what="", until=START, by="anna", reason="a"), START - 10)
    await book.save((), {})
    written = path.stat().st_ino
    await book.save((), {})
    assert path.stat().st_ino == written
    await book.save((START,), {})
    assert path.stat().st_ino != written
