"""Alerts to a syslog collector: RFC 5424 over TLS, each a message whose text is JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from appliance.alert_config import LeastSeverity, SyslogReceiver
from appliance.alerting.delivery.files import tls_context
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.message import Sender, Told, one_json
from appliance.audit.syslog import framed
from appliance.audit.syslog_connection import SyslogConnection, parse_target
from appliance.clock import rfc3339

STAYS_SECONDS: Final = 0.5
# Facility 3 is "system daemons".
_FACILITY: Final = 3
_CRITICAL, _WARNING, _NOTICE, _INFO = 2, 4, 5, 6


class SyslogDelivery:
    """One collector. Belongs to the event loop."""

    def __init__(self, settings: SyslogReceiver) -> None:
        """Raises ConfigError for a target that is none."""
        self._settings = settings
        self._address = parse_target(settings.target, "alerts.syslog.target")

    @property
    def name(self) -> str:
        """As Receiver."""
        return f"syslog {self._settings.target}"

    @property
    def severity(self) -> LeastSeverity:
        """As Receiver."""
        return self._settings.severity

    def check(self) -> None:
        """As Receiver."""
        tls_context(self._settings.ca, self._settings.certificate, self._settings.key)

    async def deliver(self, batch: Sequence[Told], sender: Sender) -> None:
        """As Receiver. A collector that keeps the connection for STAYS_SECONDS has taken it."""
        settings = self._settings
        tls = await asyncio.to_thread(tls_context, settings.ca, settings.certificate, settings.key)
        try:
            connection = await SyslogConnection.open(*self._address, tls)
            try:
                await connection.send(b"".join(frame(told, sender) for told in batch))
                await connection.stays(STAYS_SECONDS)
            finally:
                await connection.close()
        except TimeoutError as error:
            raise DeliveryError("does not answer") from error
        except OSError as error:
            raise DeliveryError(str(error)) from error


def frame(told: Told, sender: Sender) -> bytes:
    """One framed message. Pure."""
    fields = {"what": told.what, "severity": told.severity, "status": told.status, "kind": told.kind}
    priority = _FACILITY * 8 + _level(told)
    return framed(priority, rfc3339(told.at), sender.host, told.name, "alert", fields, one_json(told, sender))


def _level(told: Told) -> int:
    if told.kind == "test":
        return _INFO
    if told.status == "resolved":
        return _NOTICE
    return _CRITICAL if told.severity == "critical" else _WARNING
