"""A first start that is cut short at any durable step is completed by the next one."""

from __future__ import annotations

import ssl
import subprocess
import sys
from ipaddress import IPv4Address

import pytest

from appliance.clock import utc_now
from appliance.config import Config
from appliance.security.identity import Peer
from appliance.security.opening import open_security
from appliance.state_dir import StateDir

# Ends, as kill -9 would, at the given call of fsync; exit code 0 when the start needs fewer.
_START = """
import os, sys
from pathlib import Path
from appliance.config import Config
from appliance.security.opening import open_security
from appliance.state_dir import StateDir

left, fsync = int(sys.argv[2]), os.fsync

def die_later(fd):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    fsync(fd)

os.fsync = die_later
state = StateDir(Path(sys.argv[1]))
state.prepare()
with state.lock():
    open_security(state, Config(), state.path, {}, create=True).close()
"""


@pytest.mark.slow
async def test_killed_at_every_step(state: StateDir) -> None:
    for step in range(100):
        cut = StateDir(state.path / str(step))
        code = subprocess.run(  # noqa: ASYNC221
            [sys.executable, "-c", _START, str(cut.path), str(step)], check=False
        ).returncode
        with cut.lock():
            security = open_security(cut, Config(), cut.path, {}, create=True)
        bundle = cut.clients / "demo"
        certificate = ssl.PEM_cert_to_DER_cert((bundle / "client.crt").read_text())
        peer = Peer(IPv4Address("127.0.0.1"), certificate, "api", utc_now())
        security.close()
        access = security.office.access
        assert access.authenticate(peer, [f"Bearer {(bundle / 'api.key').read_text().strip()}"]).id == "demo"
        assert not list(cut.path.rglob("*.tmp"))
        if code == 0:
            assert step > 20
            return
        assert code == 9
    raise AssertionError("a first start has no end")
