"""The admin API over TCP: a gate of its own, and a certificate of the admin authority for everyone."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from aiohttp import web

from appliance.admin.administrator import Administrator
from appliance.admin.app import AdminApi
from appliance.front_door import FrontDoor
from appliance.security.access_view import ADMIN_LISTENER
from appliance.security.office import Office

_KEEPALIVE_SECONDS: Final = 30.0
_SHUTDOWN_SECONDS: Final = 2.0


@contextlib.asynccontextmanager
async def remote_admin(api: AdminApi, office: Office, door: FrontDoor, listening: socket.socket) -> AsyncIterator[None]:
    """Serves on `listening` inside the block."""

    def identify(http: web.Request) -> tuple[Administrator, datetime]:
        peer = gate.peer(http.protocol)
        identity = office.access.administrator(peer)
        remote = office.config.admin.remote
        roles = () if remote is None else remote.administrators.get(identity.name, ())
        administrator = Administrator(
            name=identity.name,
            roles=frozenset(roles),
            uid=None,
            address=str(peer.address),
            credential=identity.fingerprint[:16],
        )
        return administrator, peer.since

    runner = web.AppRunner(
        api.application(identify),
        access_log=None,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    assert runner.server is not None
    gate = door.add(ADMIN_LISTENER, listening, runner.server)
    try:
        yield
    finally:
        await runner.cleanup()
