"""appliance.alerting.delivery.syslog, to a real collector."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from appliance.alert_config import SyslogReceiver
from appliance.alerting.delivery import syslog
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.delivery.syslog import SyslogDelivery, frame
from appliance.errors import ConfigError
from tests.unit.alerting.delivery.conftest import SENDER, told
from tests.unit.alerting.delivery.servers import Collector
from tests.unit.audit.test_siem import make_certificate
from tests.waiting import until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog, "STAYS_SECONDS", 0.05)


def delivery(collector: Collector, ca: str) -> SyslogDelivery:
    return SyslogDelivery(SyslogReceiver(target=f"127.0.0.1:{collector.port}", ca=ca))


async def test_a_batch_arrives_as_one_message_each(tls: ssl.SSLContext, ca: str) -> None:
    async with Collector().serving(tls) as collector:
        receiver = delivery(collector, ca)
        receiver.check()
        await receiver.deliver((told(), told("Dead", "x\ny", severity="critical")), SENDER)
        await until(lambda: len(collector.messages) == 2)
    first, second = collector.messages
    assert first.startswith(b"<28>1 2025-11-24T16:00:00.000Z box appliance - GpuHot [alert@32473 what=")
    assert second.startswith(b"<26>1 ")
    text = json.loads(first[first.index(b"] {") + 2 :])
    assert text["summary"] == "GPU 0 is at 90 °C"
    assert (text["host"], text["runbook"]) == ("box", "docs/OPERATIONS.md#gpuhot")


def test_what_is_over_and_what_is_a_test_is_less_urgent() -> None:
    assert frame(told(ended=5.0, kind="resolved"), SENDER).split(b" ", 1)[1].startswith(b"<29>")
    assert frame(told(kind="test"), SENDER).split(b" ", 1)[1].startswith(b"<30>")


async def test_a_collector_that_closes_did_not_take_it(
    tls: ssl.SSLContext, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "STAYS_SECONDS", 60.0)
    collector = Collector()
    collector.goodbye = True
    async with collector.serving(tls):
        with pytest.raises(DeliveryError, match="closed"):
            await delivery(collector, ca).deliver((told(),), SENDER)


async def test_a_collector_of_another_authority_gets_nothing(tls: ssl.SSLContext, tmp_path: Path) -> None:
    other, _ = make_certificate(tmp_path)
    async with Collector().serving(tls) as collector:
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            await delivery(collector, str(other)).deliver((told(),), SENDER)
    assert collector.messages == []
    with pytest.raises(DeliveryError, match="Connect call failed"):
        await delivery(collector, str(other)).deliver((told(),), SENDER)


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"alerts\.syslog\.target"):
        SyslogDelivery(SyslogReceiver(target="siem"))
    with pytest.raises(DeliveryError, match=r"nowhere\.pem cannot be read"):
        SyslogDelivery(SyslogReceiver(target="siem:1", ca=str(tmp_path / "nowhere.pem"))).check()
    with pytest.raises(DeliveryError, match="go together"):
        SyslogDelivery(SyslogReceiver(target="siem:1", key="a")).check()
