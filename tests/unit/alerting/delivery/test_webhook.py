"""appliance.alerting.delivery.webhook, to a real web server."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from pathlib import Path

import pytest

from appliance.alert_config import WebhookReceiver
from appliance.alerting.delivery.receiver import DeliveryError
from appliance.alerting.delivery.webhook import WebhookDelivery
from appliance.errors import ConfigError
from tests.unit.alerting.delivery.conftest import SENDER, told
from tests.unit.alerting.delivery.servers import WebServer


async def test_a_signed_batch_arrives(tls: ssl.SSLContext, ca: str, tmp_path: Path) -> None:
    key = tmp_path / "secret"
    key.write_text("s3cret\n")
    key.chmod(0o600)
    async with WebServer().serving(tls) as server:
        url = f"https://127.0.0.1:{server.port}/hooks/a?token=t"
        receiver = WebhookDelivery(WebhookReceiver(url=url, ca=ca, secret_file=str(key)), lambda: 1700.9)
        receiver.check()
        await receiver.deliver((told(), told("Dead", "x", severity="critical", ended=1_764_000_060.0)), SENDER)
    ((path, headers, body),) = server.posts
    assert path == "/hooks/a?token=t"
    assert headers["X-Appliance-Timestamp"] == "1700"
    digest = hmac.new(b"s3cret", b"1700." + body, hashlib.sha256).hexdigest()
    assert headers["X-Appliance-Signature"] == f"v1={digest}"
    batch = json.loads(body)
    assert (batch["version"], batch["status"], batch["commonLabels"]) == ("4", "firing", {"instance": "box"})
    hot, dead = batch["alerts"]
    assert hot["labels"] == {"alertname": "GpuHot", "severity": "warning", "instance": "box", "what": "g0"}
    assert hot["annotations"]["summary"] == "GPU 0 is at 90 °C"
    assert (hot["startsAt"], hot["endsAt"]) == ("2025-11-24T16:00:00.000Z", "0001-01-01T00:00:00Z")
    assert (dead["status"], dead["endsAt"]) == ("resolved", "2025-11-24T16:01:00.000Z")
    assert hot["fingerprint"] != dead["fingerprint"]
    assert receiver.name == f"webhook 127.0.0.1:{server.port}/hooks/a"


@pytest.mark.parametrize("status", [307, 400, 503])
async def test_all_but_2xx_is_a_refusal(status: int) -> None:
    async with WebServer().serving(None) as server:
        server.status = status
        receiver = WebhookDelivery(WebhookReceiver(url=f"http://127.0.0.1:{server.port}/"))
        with pytest.raises(DeliveryError, match=rf"answered {status}: said\\x1b\[31m so"):
            await receiver.deliver((told(),), SENDER)
    assert len(server.posts) == 1


async def test_who_is_away_or_of_another_authority(tls: ssl.SSLContext) -> None:
    async with WebServer().serving(tls) as server:
        receiver = WebhookDelivery(WebhookReceiver(url=f"https://127.0.0.1:{server.port}/"))
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            await receiver.deliver((told(),), SENDER)
    with pytest.raises(DeliveryError, match="Cannot connect"):
        await receiver.deliver((told(),), SENDER)
    assert server.posts == []


@pytest.mark.parametrize(
    "url", ["http://chat.example/", "ftp://127.0.0.1/", "https://", "https://u:p@chat.example/", "https://a:x/", "chat"]
)
def test_what_would_go_out_in_the_clear_or_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"alerts\.webhooks\.url"):
        WebhookDelivery(WebhookReceiver(url=url))
