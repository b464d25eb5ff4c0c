"""The appliance as systemd runs it, and whether it is well."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from installer.errors import StepFailed

TARGET: Final = "appliance.target"
SERVICE: Final = "appliance.service"
SOCKETS: Final = ("appliance.socket", "appliance-admin.socket", "appliance-engine.socket")
ENABLED: Final = (TARGET, SERVICE, *SOCKETS, "appliance-recover.service")
# A drain may take its time; see drain_seconds in appliance.yaml.
SYSTEMCTL_SECONDS_MAX: Final = 600.0
_STOPS_MAX: Final = 5
_LOOK_SECONDS: Final = 0.25
_ASK_SECONDS_MAX: Final = 5.0
# One that has ended so often since its start will end again.
_RESTARTS_MAX: Final = 3
_SNAPSHOT: Final = "/admin/v1/snapshot"
# Below /run, so that no boot finds it; with a name that comes after those of a site's own.
_HOLD_DROP_IN: Final = "run/systemd/system/appliance.service.d/zz-appliance-setup.conf"
# A connection to a socket whose service does not run starts that. So another program takes the service's place: it
# holds the sockets, accepts nothing, and knows nothing of the state.
_HOLD: Final = """\
# Written by appliance-setup while it exchanges releases, which removes it.
[Service]
Type=exec
ExecStart=
ExecStart=/usr/bin/sleep infinity
ExecReload=
WatchdogSec=0
"""


class Services(Protocol):
    """What a change of releases does to the running system. Each may raise StepFailed."""

    def make_users_and_folders(self) -> None: ...
    def reload_units(self) -> None: ...
    def enable(self) -> None: ...
    def disable(self) -> None: ...
    def stop(self) -> None:
        """With its sockets: who connects is refused."""

    def hold(self) -> None:
        """Stops the service; its sockets stay, and who connects waits until `start`."""

    def start(self) -> None: ...
    def unready(self, version: str, seconds: float) -> str | None:
        """Waits until that version serves all its models; why not, where it does not within `seconds`."""


class Systemd:
    """Those of this host. root: `/`, or what stands for it in a test."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._socket = root / "run/appliance/admin.sock"
        self._drop_in = root / _HOLD_DROP_IN

    def make_users_and_folders(self) -> None:
        _run("systemd-sysusers", "appliance.conf")
        _run("systemd-tmpfiles", "--create", "appliance.conf")

    def reload_units(self) -> None:
        _run("systemctl", "daemon-reload")

    def enable(self) -> None:
        _run("systemctl", "--quiet", "enable", *ENABLED)

    def disable(self) -> None:
        _run("systemctl", "--quiet", "disable", *ENABLED)

    def stop(self) -> None:
        # With the sockets, or the next connection would start it again.
        self._stop(TARGET, SERVICE, *SOCKETS)
        self._let_go()

    def hold(self) -> None:
        self._drop_in.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._drop_in.write_text(_HOLD)
        self.reload_units()
        # Not a restart, over which systemd would keep the workers. What a connection starts meanwhile is the holder.
        self._stop(SERVICE)
        if _tried("systemctl", "start", SERVICE).returncode != 0:
            self.stop()

    def start(self) -> None:
        held = self._let_go()
        _run("systemctl", "reset-failed", "appliance*")
        # It comes up, or does not, while somebody looks at it.
        if held:
            _run("systemctl", "--no-block", "restart", SERVICE)
        _run("systemctl", "--no-block", "start", TARGET)

    def _stop(self, *units: str) -> None:
        # A start that is under way, by a connection or after a crash, may cancel a stop.
        for _ in range(_STOPS_MAX - 1):
            if _tried("systemctl", "stop", *units).returncode == 0:
                return
        _run("systemctl", "stop", *units)

    def _let_go(self) -> bool:
        """Whether there was a holder, which the next start replaces."""
        held = self._drop_in.exists()
        if held:
            self._drop_in.unlink()
            self.reload_units()
        return held

    def unready(self, version: str, seconds: float) -> str | None:
        # The start has only been asked for: until it comes, the figure is that of the run before.
        earlier = _restarts()

        def hopeless() -> bool:
            return _RESTARTS_MAX <= _restarts() != earlier

        return wait_until_well(lambda: self._ill(version), hopeless, seconds, time.monotonic, time.sleep)

    def _ill(self, version: str) -> str | None:
        try:
            found = _ask(self._socket, _SNAPSHOT)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"it does not answer ({error or type(error).__name__}); journalctl -u {SERVICE} says why"
        if found.get("version") != version:
            return f"version {found.get('version')} answers, not {version}"
        if not found.get("ready"):
            waiting = (f"{one.get('id')} is {one.get('state')}" for one in found.get("models", ()))
            return f"it is not ready: {', '.join(waiting) or 'no model is loaded'}"
        return None


def _restarts() -> int:
    told = _tried("systemctl", "show", "--value", "--property=NRestarts", SERVICE).stdout.strip()
    return int(told) if told.isdigit() else 0


def wait_until_well(
    ill: Callable[[], str | None],
    hopeless: Callable[[], bool],
    seconds: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> str | None:
    """None as soon as `ill` says None; what it said last once the time is over, or more time would not help."""
    deadline = clock() + seconds
    while (reason := ill()) is not None:
        if clock() >= deadline or hopeless():
            return reason
        sleep(_LOOK_SECONDS)
    return None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ASK_SECONDS_MAX)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(path: Path, route: str) -> dict[str, Any]:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", route)
        answer = connection.getresponse()
        content = answer.read(16 * 2**20)
        if answer.status != http.client.OK:
            raise ValueError(f"status {answer.status}")
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found
    finally:
        connection.close()


def _run(*command: str) -> None:
    done = _tried(*command)
    if done.returncode != 0:
        raise StepFailed(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}")


def _tried(*command: str) -> subprocess.CompletedProcess[str]:
    seconds = SYSTEMCTL_SECONDS_MAX
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{' '.join(command)} took longer than {seconds:.0f} s") from None
