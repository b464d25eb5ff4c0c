"""Workers that stay when the service restarts: systemd keeps their lines, and the next process goes on with them.

The name under which a line is kept says what its worker has loaded and how, so that a worker is found again only where
it is what would be loaded. What nobody wants any more is ended at the start.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Final

import msgspec

from appliance.config import WorkerLimits
from appliance.models.file_identity import FileIdentity
from appliance.models.launcher import WorkerLink, stream_over
from appliance.models.models_plan import AT_ONCE
from appliance.systemd import PassedFd, ServiceManager
from appliance.types import ModelSpec

KEPT_PREFIX: Final = "model-"
_KEY_CHARS: Final = 40

_log = logging.getLogger(__name__)


class KeptWorkers:
    """Belongs to the event loop.

    passed: the lines that were kept for us, with KEPT_PREFIX in their names. release: which build of the appliance this
    is; a worker of another one is not gone on with.
    """

    def __init__(self, manager: ServiceManager, passed: Iterable[PassedFd] = (), release: str = "") -> None:
        self._manager = manager
        self._release = release
        self._lines: dict[str, socket.socket] = {}
        self._parting = False
        for one in passed:
            line = socket.socket(fileno=one.fd)
            if one.name in self._lines:
                _hang_up(line)
            else:
                self._lines[one.name] = line

    def name_of(self, spec: ModelSpec, limits: WorkerLimits, file: FileIdentity | None) -> str:
        """Under which a worker is kept that has loaded `file` as `spec` has it configured."""
        told = {field: value for field, value in msgspec.structs.asdict(spec).items() if field not in AT_ONCE}
        key = sha256(msgspec.msgpack.encode((self._release, told, limits, file))).hexdigest()
        return KEPT_PREFIX + key[:_KEY_CHARS]

    def has(self, name: str) -> bool:
        """Whether such a worker was kept, and nobody has taken it."""
        return name in self._lines

    def take(self, name: str) -> WorkerLink | None:
        """A new connection to such a worker; `Resume` is its first frame. None where there is none."""
        line = self._lines.pop(name, None)
        if line is None:
            return None
        try:
            link = WorkerLink(stream_over(line), None, line=line)
        except OSError:
            line.close()
            return None
        link.kept = True
        return link

    def keep(self, name: str, link: WorkerLink) -> None:
        """From now on this worker stays when this process ends, if there is somebody to keep it."""
        if link.line is not None and not link.kept:
            link.kept = self._manager.keep(name, link.line.fileno())

    def end_others(self, wanted: Collection[str]) -> None:
        """Ends those that were kept and that nobody wants."""
        for name in [name for name in self._lines if name not in wanted]:
            _log.info("a worker that was kept serves nothing any more; ending it")
            _hang_up(self._lines.pop(name))

    def part(self) -> None:
        """This process is about to end, and those that are kept shall stay."""
        self._parting = True

    async def close(self, link: WorkerLink) -> int | None:
        """Ends a worker, or only its connection where it stays; its exit status where it is known."""
        return await (link.leave() if self._parting else link.close())


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()
