"""appliance.alerting.delivery.mail, to a real mail server."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from appliance.alert_config import MailReceiver
from appliance.alerting.delivery import mail
from appliance.alerting.delivery.mail import MailDelivery
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.errors import ConfigError
from tests.unit.alerting.delivery.conftest import SENDER, told
from tests.unit.alerting.delivery.servers import MailServer
from tests.waiting import until


def settings(server: MailServer | None = None, **more: Any) -> MailReceiver:
    port = 25 if server is None else server.port
    fields = {"target": f"127.0.0.1:{port}", "sender": "box@example.com", "to": ("a@example.com", "b@example.com")}
    return MailReceiver(**{**fields, **more})


async def test_one_letter_for_all_after_starttls_and_login(tls: ssl.SSLContext, ca: str, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    password.chmod(0o600)
    async with MailServer(tls).serving() as server:
        receiver = MailDelivery(settings(server, ca=ca, username="box", password_file=str(password)))
        receiver.check()
        await receiver.deliver((told(), told("Dead", "模型", severity="critical")), SENDER)
    assert server.logins == [b"\0box\0hunter2"]
    assert server.commands.index("STARTTLS") < next(i for i, line in enumerate(server.commands) if "AUTH" in line)
    assert server.commands[0] == "ehlo box"
    assert len(server.recipients) == 2
    (raw,) = server.letters
    letter = email.message_from_string(raw, policy=email.policy.default)
    assert letter["Subject"] == "[CRITICAL] box: Dead 模型 (+1 more)"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["X-Priority"] == "1"
    text = letter.get_content()
    assert "WARNING  GpuHot  g0" in text
    assert "since 2025-11-24 16:00:00 UTC" in text
    assert "appliance alerts explain Dead" in text


async def test_tls_from_the_first_byte_and_plain_to_this_host(tls: ssl.SSLContext, ca: str) -> None:
    async with MailServer(tls, at_once=True).serving() as server:
        await MailDelivery(settings(server, security="tls", ca=ca)).deliver((told(),), SENDER)
    assert len(server.letters) == 1
    async with MailServer(None).serving() as server:
        await MailDelivery(settings(server, security="none")).deliver((told(),), SENDER)
    assert len(server.letters) == 1
    assert server.logins == []


async def test_a_server_without_tls_or_of_another_authority_gets_no_letter(tls: ssl.SSLContext, ca: str) -> None:
    async with MailServer(None).serving() as server:
        with pytest.raises(DeliveryError, match="STARTTLS"):
            await MailDelivery(settings(server, ca=ca)).deliver((told(),), SENDER)
    async with MailServer(tls).serving() as server:
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            await MailDelivery(settings(server)).deliver((told(),), SENDER)
    assert server.letters == []


@pytest.mark.parametrize(
    ("command", "answer", "says"),
    [
        ("MAIL", "550 not you\x1b[31m", r"refused it: 550 not you\\x1b"),
        ("RCPT", "550 unknown", "a@example.com: 550 unknown"),
        ("RCPT TO:<B@", "550 unknown", "refused the recipients: b@example.com: 550 unknown"),
        ("DATA", "554 no", "refused it: 554 no"),
    ],
)
async def test_a_refusal_is_said_in_the_servers_words(command: str, answer: str, says: str) -> None:
    async with MailServer(None).serving() as server:
        server.refuses[command] = answer
        with pytest.raises(DeliveryError, match=says):
            await MailDelivery(settings(server, security="none")).deliver((told(),), SENDER)


@pytest.fixture
def endless_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not cut does not end by itself."""
    monkeypatch.setattr(mail, "STEP_SECONDS", 600.0)


async def given_up(attempt: asyncio.Task[None]) -> None:
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def delivered(receiver: MailDelivery) -> None:
    """Once the attempt before this one has ended."""
    async with asyncio.timeout(60):
        while True:
            try:
                await receiver.deliver((told(),), SENDER)
                return
            except DeliveryError as error:
                assert "hangs" in str(error)
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("endless_steps")
@pytest.mark.parametrize("silent", [True, False], ids=["nobody is greeted", "no letter is taken"])
async def test_given_up_it_ends_its_thread_at_once(silent: bool) -> None:
    async with MailServer(None).serving() as server:
        server.silent = silent
        server.refuses["DATA"] = "354-"  # and nothing more
        receiver = MailDelivery(settings(server, security="none"))
        attempt = asyncio.get_running_loop().create_task(receiver.deliver((told(),), SENDER))
        await until(lambda: server.clients if silent else "data" in server.commands)
        await given_up(attempt)
        server.silent = False
        server.refuses.clear()
        await delivered(receiver)
    assert len(server.letters) == 1


@pytest.mark.usefixtures("endless_steps")
async def test_given_up_before_it_has_connected_it_sends_no_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is there a second attempt beside it, which the server would get as a second letter."""
    held, connect = threading.Event(), socket.create_connection
    connecting: list[object] = []

    def late(*given: Any, **named: Any) -> socket.socket:
        connecting.append(given)
        assert held.wait(60)
        return connect(*given, **named)

    monkeypatch.setattr(socket, "create_connection", late)
    async with MailServer(None).serving() as server:
        receiver = MailDelivery(settings(server, security="none"))
        attempt = asyncio.get_running_loop().create_task(receiver.deliver((told(),), SENDER))
        await until(lambda: connecting)
        await given_up(attempt)
        with pytest.raises(DeliveryError, match="hangs"):
            await receiver.deliver((told(),), SENDER)
        held.set()
        await delivered(receiver)
    assert len(server.letters) == 1


async def test_it_waits_for_no_thread_of_others() -> None:
    """Given up while it waited for one, it would be taken for an attempt that hangs: for good."""
    held = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    other = loop.run_in_executor(None, held.wait, 60)
    try:
        async with MailServer(None).serving() as server:
            await delivered(MailDelivery(settings(server, security="none")))
    finally:
        held.set()
        await other


def test_what_would_go_out_in_the_clear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this host"):
        MailDelivery(settings(target="mail.example:25", security="none"))
    with pytest.raises(ConfigError, match="go together"):
        MailDelivery(settings(username="box"))
    password = tmp_path / "password"
    password.write_text("hunter2")
    password.chmod(0o644)
    with pytest.raises(DeliveryError, match="mode 0644"):
        MailDelivery(settings(username="box", password_file=str(password))).check()
    password.chmod(0o600)
    password.write_text("\n")
    with pytest.raises(DeliveryError, match="no secret"):
        MailDelivery(settings(username="box", password_file=str(password))).check()
