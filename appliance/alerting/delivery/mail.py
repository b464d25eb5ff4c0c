"""Alerts by mail: one letter for all that waits."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any, Final

from appliance.alert_config import LeastSeverity, MailReceiver
from appliance.alerting.delivery.files import secret, tls_context
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.message import Sender, Told, letter, subject
from appliance.audit.syslog_connection import parse_target
from appliance.errors import ConfigError
from appliance.safe_text import safe_text
from appliance.upstream_spec import is_loopback

STEP_SECONDS: Final = 10.0
REFUSAL_CHARS_MAX: Final = 300


class MailDelivery:
    """One mail server. smtplib blocks, so it has a thread: its own, which makes one attempt at a time."""

    def __init__(self, settings: MailReceiver) -> None:
        """Raises ConfigError for what would go out in the clear, or nowhere."""
        self._settings = settings
        self._host, self._port = parse_target(settings.target, "alerts.mail.target")
        if settings.security == "none" and not is_loopback(self._host):
            raise ConfigError("alerts.mail: security: none is for a mail server on this host; use starttls or tls")
        if (settings.username is None) != (settings.password_file is None):
            raise ConfigError("alerts.mail: username and password_file go together; write both or none")
        self._thread = ThreadPoolExecutor(1, "mail")
        self._attempt: Future[None] | None = None

    @property
    def name(self) -> str:
        """As Receiver."""
        return f"mail {self._settings.target}"

    @property
    def severity(self) -> LeastSeverity:
        """As Receiver."""
        return self._settings.severity

    def check(self) -> None:
        """As Receiver."""
        if self._settings.security != "none":
            tls_context(self._settings.ca)
        if self._settings.password_file is not None:
            secret(self._settings.password_file)

    async def deliver(self, batch: Sequence[Told], sender: Sender) -> None:
        """As Receiver. Cancelled, it cuts the connection, which ends the attempt."""
        if self._attempt is not None and not self._attempt.done():
            raise DeliveryError("hangs: the attempt before this one has not ended yet")
        work = _Dispatch(self._settings, self._host, self._port, compose(batch, sender, self._settings), sender.host)
        self._attempt = self._thread.submit(work.run)
        try:
            await asyncio.wrap_future(self._attempt)
        except asyncio.CancelledError:
            work.cut()
            raise
        except smtplib.SMTPResponseException as error:
            raise DeliveryError(f"refused it: {error.smtp_code} {_text(error.smtp_error)}") from error
        except smtplib.SMTPRecipientsRefused as error:
            refused = "; ".join(f"{to}: {code} {_text(text)}" for to, (code, text) in error.recipients.items())
            raise DeliveryError(f"refused the recipients: {safe_text(refused, REFUSAL_CHARS_MAX)}") from error
        except OSError as error:
            raise DeliveryError(str(error) or "does not answer") from error


class _Client(smtplib.SMTP):
    """Shows itself before it connects, which its maker waits for; from then on any thread may cut it."""

    def __init__(self, show: Callable[[_Client], None], *given: Any, **named: Any) -> None:
        self._connection: socket.socket | None = None
        self._given_up = False
        show(self)
        super().__init__(*given, **named)

    @property
    def sock(self) -> socket.socket | None:
        """As smtplib's."""
        return self._connection

    @sock.setter
    def sock(self, connection: socket.socket | None) -> None:
        self._connection = connection
        # Whoever gave up before this moment had no connection to cut.
        if self._given_up:
            self.cut()

    def cut(self) -> None:
        """Ends whatever it waits for, at once, or as soon as it has connected."""
        self._given_up = True
        if (connection := self._connection) is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _TlsClient(_Client, smtplib.SMTP_SSL):
    """The same with TLS from the first byte."""


class _Dispatch:
    """One attempt; `run` in a thread, `cut` in any other."""

    def __init__(self, settings: MailReceiver, host: str, port: int, message: EmailMessage, own_name: str) -> None:
        self._settings = settings
        self._host = host
        self._port = port
        self._message = message
        self._own_name = own_name
        self._client: _Client | None = None
        self._given_up = False

    def run(self) -> None:
        """Raises OSError, of which smtplib's errors are, or DeliveryError."""
        settings = self._settings
        with self._connect() as client:
            if settings.security == "starttls":
                client.starttls(context=tls_context(settings.ca))
            if settings.username is not None and settings.password_file is not None:
                client.login(settings.username, secret(settings.password_file))
            refused = client.send_message(self._message)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def _connect(self) -> smtplib.SMTP:
        # With a name of its own, smtplib asks no resolver who we are.
        name = self._own_name if self._own_name.isascii() else "appliance"
        if self._settings.security == "tls":
            tls = tls_context(self._settings.ca)
            return _TlsClient(self._cuttable, self._host, self._port, name, timeout=STEP_SECONDS, context=tls)
        return _Client(self._cuttable, self._host, self._port, name, timeout=STEP_SECONDS)

    def _cuttable(self, client: _Client) -> None:
        self._client = client
        if self._given_up:
            client.cut()

    def cut(self) -> None:
        """Ends whatever `run` waits for, at once, or as soon as it has connected."""
        self._given_up = True
        if (client := self._client) is not None:
            client.cut()


def compose(batch: Sequence[Told], sender: Sender, settings: MailReceiver) -> EmailMessage:
    """The letter, but for its id pure."""
    message = EmailMessage()
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Subject"] = subject(batch, sender)
    message["Date"] = format_datetime(datetime.fromtimestamp(max(told.at for told in batch), UTC))
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    # Nobody's absence note is to answer this.
    message["Auto-Submitted"] = "auto-generated"
    if any(told.severity == "critical" and told.status == "firing" for told in batch):
        message["X-Priority"] = "1"
    message.set_content(letter(batch, sender))
    return message


def _text(said: bytes | str) -> str:
    return safe_text(said.decode("utf-8", "replace") if isinstance(said, bytes) else said, REFUSAL_CHARS_MAX)
