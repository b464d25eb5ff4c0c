"""appliance.alerting.delivery.outbox: with receivers that a test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from appliance.alert_config import Alerts, LeastSeverity, SyslogReceiver, WebhookReceiver
from appliance.alerting.delivery import outbox as outbox_module
from appliance.alerting.delivery.outbox import AGE_SECONDS, WAITING_MAX, Outbox, receivers
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.message import Sender, Told
from appliance.alerting.rules import UNDELIVERED
from appliance.errors import ConfigError
from tests.unit.alerting.delivery.conftest import SENDER, told
from tests.unit.alerting.making import START
from tests.waiting import until


class Fake:
    """batches: what it took. failure: why it takes nothing now. hangs: never answers."""

    def __init__(self, name: str = "fake", severity: LeastSeverity = "warning") -> None:
        self.name = name
        self.severity: LeastSeverity = severity
        self.batches: list[list[str]] = []
        self.tries = 0
        self.failure: Exception | None = None
        self.hangs = False

    async def deliver(self, batch: Sequence[Told], sender: Sender) -> None:
        self.tries += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        self.batches.append([f"{each.name}/{each.what}/{each.kind}" for each in batch])

    def check(self) -> None:
        pass


class Time:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def outbox() -> AsyncIterator[Outbox]:
    made = Outbox(SENDER, Time(), backoff=(0.005, 0.01))
    yield made
    await made.close()


async def settled(outbox: Outbox) -> None:
    await until(lambda: not outbox.waiting)


async def test_what_comes_together_goes_together(outbox: Outbox) -> None:
    every, worst = Fake(), Fake("worst", "critical")
    outbox.start((every, worst), {})
    outbox.put((told(), told("Dead", severity="critical")))
    await settled(outbox)
    outbox.put((told("Later"),))
    await settled(outbox)
    assert every.batches == [["GpuHot/g0/firing", "Dead/g0/firing"], ["Later/g0/firing"]]
    assert worst.batches == [["Dead/g0/firing"]]
    assert [one.delivered for one in outbox.statuses] == [3, 1]


async def test_who_is_away_is_tried_again_and_delays_nobody(outbox: Outbox) -> None:
    away, there = Fake("away"), Fake("there")
    away.failure = DeliveryError("refused it")
    outbox.start((away, there), {})
    outbox.put((told(), told("Dead")))
    await until(lambda: away.tries >= 3)
    assert len(there.batches) == 1
    assert outbox.failures == {"away": "refused it"}
    # Of one alert the newest word counts.
    outbox.put((told(kind="resolved", ended=START),))
    away.failure = None
    await settled(outbox)
    assert away.batches == [["Dead/g0/firing", "GpuHot/g0/resolved"]]
    assert outbox.failures == {}


async def test_a_receiver_that_hangs_or_breaks_is_a_failure(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "DELIVER_SECONDS", 0.02)
    hanging, broken = Fake("hanging"), Fake("broken")
    hanging.hangs, broken.failure = True, RuntimeError("a mistake of ours")
    outbox.start((hanging, broken), {})
    outbox.put((told(),))
    await until(lambda: len(outbox.failures) == 2)
    assert outbox.failures == {"hanging": "does not answer", "broken": "failed: RuntimeError"}


async def test_what_waits_is_bounded_in_number_and_age() -> None:
    time = Time()
    outbox = Outbox(SENDER, time, backoff=(0.001, 0.001))
    away = Fake()
    away.failure = DeliveryError("is away")
    outbox.start((away,), {})
    outbox.put([told(what=f"g{number}") for number in range(WAITING_MAX + 5)])
    assert outbox.statuses[0].waiting == WAITING_MAX
    assert outbox.statuses[0].dropped == 5
    assert outbox.waiting["fake"][0].what == "g5"
    time.now += AGE_SECONDS + 1
    await settled(outbox)
    assert outbox.statuses[0].dropped == WAITING_MAX + 5
    await outbox.close()


async def test_a_receiver_is_not_told_that_it_is_not_reached(outbox: Outbox) -> None:
    one, other = Fake("one"), Fake("other")
    outbox.start((one, other), {})
    outbox.put((told(UNDELIVERED, "one"),))
    await settled(outbox)
    assert (one.batches, other.batches) == ([], [[f"{UNDELIVERED}/one/firing"]])


async def test_a_reload_and_a_restart_lose_nothing(outbox: Outbox) -> None:
    away = Fake("away")
    away.failure = DeliveryError("is away")
    outbox.start((away, Fake("old")), {"away": (told(what="of before"),), "gone": (told(),)})
    outbox.put((told(),))
    await until(lambda: bool(outbox.failures))
    back = Fake("away")
    outbox.start((back, Fake("new")), {})
    assert outbox.failures == {"away": "is away"}
    await settled(outbox)
    assert back.batches == [["GpuHot/of before/firing", "GpuHot/g0/firing"]]
    assert away.batches == []


async def test_a_test_says_how_each_went(outbox: Outbox) -> None:
    good, bad = Fake("good"), Fake("bad", "critical")
    bad.failure = DeliveryError("refused it")
    outbox.start((good, bad), {})
    results = await outbox.test(Told.test("anna", START))
    assert [(one.name, one.failure) for one in results] == [("good", None), ("bad", "refused it")]
    assert good.batches == [["AlertTest/test/test"]]
    assert outbox.failures == {}
    # One that arrives ends a failure, also where nothing waits.
    outbox._lanes["bad"]._note("is away")
    bad.failure = None
    await outbox.test(Told.test("anna", START))
    assert outbox.failures == {}


def test_the_receivers_of_appliance_yaml(ca: str) -> None:
    hook = WebhookReceiver(url="https://chat.example/hook?token=a", ca=ca)
    made = receivers(Alerts(syslog=(SyslogReceiver(target="siem:6514", ca=ca),), webhooks=(hook,)))
    assert [one.name for one in made] == ["syslog siem:6514", "webhook chat.example:443/hook"]
    other = WebhookReceiver(url="https://chat.example/hook?token=b", ca=ca)
    with pytest.raises(ConfigError, match="there twice"):
        receivers(Alerts(webhooks=(hook, other)))
    with pytest.raises(ConfigError, match=r"alerts: syslog siem:1: .*nowhere\.pem cannot be read"):
        receivers(Alerts(syslog=(SyslogReceiver(target="siem:1", ca="/nowhere.pem"),)))
