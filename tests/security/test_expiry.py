"""A certificate that ends while its connection is open."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from appliance.security.certificates import certificate_pem, issue_client
from appliance.security.identity import client_uri
from appliance.security.private_keys import key_pem
from appliance.state_dir import StateDir
from tests.e2e.appliance_process import Appliance
from tests.security.authorities import PROFILES
from tests.security.daemons import caller, refusal, scripted_appliance, status, stream
from tests.security.forgery import authority

LEFT_SECONDS = 8


@pytest.mark.slow
async def test_on_an_open_connection(tmp_path: Path) -> None:
    """The next request is refused; a stream that has begun comes to its end; a new handshake fails."""
    with scripted_appliance(tmp_path / "a") as appliance:
        ends = await _short_lived(appliance)
        async with caller(appliance) as session, caller(appliance) as streaming, stream(streaming) as begun:
            assert await status(session) == 200
            await asyncio.sleep((ends - datetime.now(UTC)).total_seconds() + 1.1)
            assert await refusal(session) == (401, "certificate_rejected")
            assert await begun.content.readline()
        async with caller(appliance) as late:
            with pytest.raises(aiohttp.ClientError, match=r"(?i)expired"):
                await status(late)


async def _short_lived(appliance: Appliance) -> datetime:
    """Gives client `demo` a certificate that ends soon; when."""
    state, bundle = StateDir(appliance.state), appliance.bundle()
    issuer = authority(state, "client")
    appliance_id = issuer.certificate.subject.rfc4514_string().split()[1]
    # Issued so long ago that it has a few seconds left.
    issued_at = datetime.now(UTC) - PROFILES.client.life + timedelta(seconds=LEFT_SECONDS)
    pair = issue_client(issuer, "demo", client_uri(appliance_id, "demo"), PROFILES.client, issued_at)
    (bundle / "client.crt").write_bytes(certificate_pem(pair.certificate))
    (bundle / "client.key").write_bytes(key_pem(pair.key))
    return pair.certificate.not_valid_after_utc
