"""The admin API on a Unix socket. Who may open it is the file's mode; what they may do, their groups say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from appliance.admin.administrator import Administrator, LocalUser
from appliance.admin.app import AdminApi
from appliance.admin.site import AdminSite
from appliance.admin_client import is_served
from appliance.errors import ConfigError

SOCKET_MODE: Final = 0o660
_PATH_BYTES_MAX: Final = 107
_BACKLOG: Final = 64
_SHUTDOWN_SECONDS: Final = 2.0


@contextlib.asynccontextmanager
async def unix_listener(
    api: AdminApi, site: AdminSite, path: Path, passed: socket.socket | None = None
) -> AsyncIterator[None]:
    """Serves on `path` inside the block. The caller holds the daemon's lock, so a file that is there is left over.

    passed: a socket that a service manager has made, with owner and mode, and that stays when we go; it is closed here.
    Raises ConfigError where the socket cannot be made.
    """
    arrivals: dict[web.RequestHandler, tuple[LocalUser, datetime]] = {}

    def identify(http: web.Request) -> tuple[Administrator, datetime]:
        if http.protocol not in arrivals:
            raise ConnectionResetError("the client has gone")
        user, connected_at = arrivals[http.protocol]
        return user.administrator(site.office.config.admin.groups), connected_at

    runner = web.AppRunner(
        api.application(identify),
        access_log=None,
        handler_cancellation=False,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    listening = _bind(path) if passed is None else passed
    try:
        await runner.setup()
        assert runner.server is not None
        _follow(runner.server, site, arrivals)
        server = await asyncio.get_running_loop().create_unix_server(runner.server, sock=listening, backlog=_BACKLOG)
        try:
            yield
        finally:
            server.close()
    finally:
        listening.close()
        if passed is None:
            _remove(path)
        await runner.cleanup()


def _follow(
    server: web.Server, site: AdminSite, arrivals: dict[web.RequestHandler, tuple[LocalUser, datetime]]
) -> None:
    """Notes who connected and when: the groups are those of the moment of `connect`, as the kernel recorded them."""
    made, lost = server.connection_made, server.connection_lost

    def connection_made(protocol: web.RequestHandler, transport: asyncio.Transport) -> None:
        arrivals[protocol] = (LocalUser.of(transport.get_extra_info("socket")), site.office.now())
        made(protocol, transport)

    def connection_lost(protocol: web.RequestHandler, error: BaseException | None = None) -> None:
        arrivals.pop(protocol, None)
        lost(protocol, error)

    server.connection_made = connection_made  # type: ignore[assignment]
    server.connection_lost = connection_lost  # type: ignore[assignment]


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise ConfigError(
            f"{path} is too long for a Unix socket ({_PATH_BYTES_MAX} bytes); set admin.socket to a shorter one, "
            "such as /run/appliance/admin.sock"
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path)
        # Nobody gets in between: Linux gives the file the mode of the socket it is bound to, less the umask.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(os.fspath(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        listening.close()
        raise ConfigError(f"{path}: the admin socket cannot be made: {error.strerror}") from error
    except ConfigError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def _make_room(path: Path) -> None:
    """Removes a socket that a daemon left behind, and nothing else. Raises ConfigError or OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is no socket; move it away, or set admin.socket to another path")
    if is_served(path):
        raise ConfigError(f"somebody else listens on {path}; stop that one, or set admin.socket to another path")
    path.unlink()
