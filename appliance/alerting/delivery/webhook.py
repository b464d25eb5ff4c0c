"""Alerts to a webhook: a POST of JSON, signed where there is a secret."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from appliance.alert_config import LeastSeverity, WebhookReceiver
from appliance.alerting.delivery.files import secret, tls_context
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.message import Sender, Told, batch_json
from appliance.errors import ConfigError
from appliance.safe_text import safe_text
from appliance.upstream_spec import is_loopback

POST_SECONDS: Final = 20.0
ANSWER_BYTES_MAX: Final = 1024
TIMESTAMP: Final = "X-Appliance-Timestamp"
SIGNATURE: Final = "X-Appliance-Signature"


class WebhookDelivery:
    """One server. Belongs to the event loop."""

    def __init__(self, settings: WebhookReceiver, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError for what would go out in the clear, or nowhere."""
        self._settings = settings
        self._clock = clock
        try:
            parts = urlsplit(settings.url)
            host, self._place = parts.hostname, f"{parts.hostname}:{parts.port or 443}{parts.path}"
        except ValueError as error:
            raise ConfigError(f"alerts.webhooks.url {settings.url!r} is no address: {error}") from error
        self._secure = parts.scheme == "https"
        if not host or parts.scheme not in ("https", "http"):
            raise ConfigError(f"alerts.webhooks.url {settings.url!r} is no https address")
        if "@" in parts.netloc:
            raise ConfigError("alerts.webhooks.url must not hold a password; secret_file signs what is sent")
        if not self._secure and not is_loopback(host):
            raise ConfigError("alerts.webhooks.url: http is for a server on this host; use https")

    @property
    def name(self) -> str:
        """As Receiver. Without the query, where some servers want a token."""
        return f"webhook {self._place}"

    @property
    def severity(self) -> LeastSeverity:
        """As Receiver."""
        return self._settings.severity

    def check(self) -> None:
        """As Receiver."""
        if self._secure:
            tls_context(self._settings.ca, self._settings.certificate, self._settings.key)
        if self._settings.secret_file is not None:
            secret(self._settings.secret_file)

    async def deliver(self, batch: Sequence[Told], sender: Sender) -> None:
        """As Receiver. Anything but 2xx is a refusal; redirects are not followed."""
        settings = self._settings
        body = batch_json(batch, sender, self.name)
        headers = {"Content-Type": "application/json", "User-Agent": f"appliance/{sender.version}"}
        if settings.secret_file is not None:
            key = await asyncio.to_thread(secret, settings.secret_file)
            headers |= signature(key, str(int(self._clock())), body)
        tls: ssl.SSLContext | bool = True
        if self._secure:
            tls = await asyncio.to_thread(tls_context, settings.ca, settings.certificate, settings.key)
        timeout = aiohttp.ClientTimeout(total=POST_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout) as session,
                session.post(settings.url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                if answer.status // 100 != 2:
                    said = await answer.content.read(ANSWER_BYTES_MAX)
                    text = safe_text(said.decode("utf-8", "replace").strip())
                    raise DeliveryError(f"answered {answer.status}{': ' if text else ''}{text}")
        except TimeoutError as error:
            raise DeliveryError("does not answer") from error
        except (aiohttp.ClientError, OSError) as error:
            raise DeliveryError(safe_text(str(error) or type(error).__name__)) from error


def signature(key: str, timestamp: str, body: bytes) -> Mapping[str, str]:
    """The headers that say who sent it and when: HMAC-SHA256 over the timestamp, a dot and the body. Pure."""
    digest = hmac.new(key.encode("ascii"), timestamp.encode("ascii") + b"." + body, hashlib.sha256).hexdigest()
    return {TIMESTAMP: timestamp, SIGNATURE: f"v1={digest}"}
