"""`appliance alerts`, as it is typed; the admin API on a real socket in this process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.watch import AlertWatch
from appliance.state_dir import StateDir
from tests.admin.desk import Desk
from tests.admin.test_alerts import ENDING, desk, fake, watch
from tests.cli.conftest import Command, Said
from tests.unit.alerting.delivery.test_outbox import Fake
from tests.unit.alerting.making import START, snapshot

__all__ = ["desk", "fake", "watch"]

Typed = Callable[..., Awaitable[Said]]


@pytest.fixture
async def typed(cli: Command, desk: Desk) -> AsyncIterator[Typed]:
    """Beside the desk's event loop."""

    async def run(*arguments: str) -> Said:
        return await asyncio.to_thread(cli, *arguments)

    yield run


async def test_what_is_wrong_is_said_and_critical_is_exit_code_1(typed: Typed, watch: AlertWatch) -> None:
    said = await typed("alerts")
    assert said.code == 1
    assert "critical  TlsCertificateExpiresCritical  server  firing" in said.out
    assert "the certificate of server ends in 1d00h" in said.out
    assert (await typed("alerts", "--json")).json["receivers"][0]["name"] == "fake"
    for second in range(0, 100, 50):
        watch.take(snapshot(START + 10 + second))
    watch.take(snapshot(START + 200))
    said = (await typed("alerts")).ok()
    assert "resolved" in said.out


async def test_ack_takes_the_only_one_and_asks_which_of_several(typed: Typed, watch: AlertWatch) -> None:
    planned = (await typed("alerts", "ack", "TlsCertificateExpiresSoon", "--note", "ordered", "--plan")).ok()
    assert planned.out == "TlsCertificateExpiresSoon server: would be acked\n"
    acked = (await typed("alerts", "ack", "TlsCertificateExpiresSoon", "--note", "ordered")).ok()
    assert acked.out == "TlsCertificateExpiresSoon server: acked\n"
    assert "(ordered)" in (await typed("alerts")).out
    other = type(ENDING)(name="client CA", role="client_ca", not_after=ENDING.not_after)
    watch.take(snapshot(START + 1, certificates=(ENDING, other)))
    said = await typed("alerts", "ack", "TlsCertificateExpiresCritical", "--note", "a")
    assert "say which with --of: server, client CA" in said.err
    (await typed("alerts", "ack", "TlsCertificateExpiresCritical", "--of", "client CA", "--note", "a")).ok()
    assert "no alert GpuHot" in (await typed("alerts", "ack", "GpuHot", "--note", "a")).err


async def test_silence(typed: Typed) -> None:
    said = (await typed("alerts", "silence", "GpuHot", "--for", "8h", "--reason", "new fans")).ok()
    assert said.out.startswith("silenced: GpuHot until 2025-11-25 00:00 UTC by ")
    assert said.out.endswith(": new fans\n")
    assert (await typed("alerts", "silence", "GpuHot", "--for", "0", "--reason", "done")).ok().out == ""
    assert "write 30m, 8h or 2d" in (await typed("alerts", "silence", "GpuHot", "--for", "soon", "--reason", "a")).err


async def test_a_test_says_how_it_went(typed: Typed, fake: Fake) -> None:
    assert (await typed("alerts", "test", "--plan")).ok().out == "fake: would get a message\n"
    assert re.fullmatch(r"fake: arrived in \d+\.\d s\n", (await typed("alerts", "test")).ok().out)
    fake.failure = DeliveryError("refused it")
    said = await typed("alerts", "test")
    assert (said.code, said.out) == (1, "fake: refused it\n")


def test_what_to_do_is_said_without_a_daemon(command: Command, cli: Command, state: StateDir) -> None:
    assert command("alerts", "explain", "GpuHot").ok().out.startswith("GpuHot\n\n**Warning**")
    assert "风扇" in command("alerts", "explain", "GpuHot", "--lang", "zh").ok().out
    assert "did you mean 'GpuHot'?" in command("alerts", "explain", "GpuHott").err
    assert "no daemon runs here" in cli("alerts").err
