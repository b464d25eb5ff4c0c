"""One of the servers behind an upstream model: whether it is up, and how busy we keep it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from appliance.models.backoff import backoff_seconds
from appliance.upstream_spec import ReplicaAccess, UpstreamReplica

# A server that works may be too busy for a probe; one that refuses connections is down at once.
SILENT_PROBES_MAX: Final = 3


class ReplicaSnapshot(Struct, frozen=True, kw_only=True):
    """What an observer sees. reason: why it gets no requests; None while it does."""

    base_url: str
    busy: int
    reason: str | None


class Replica:
    """Belongs to the event loop.

    known: it has been probed at least once. Until then it gets requests, as one that is up does.
    files_fault: why its changed files do not count.
    """

    def __init__(self, spec: UpstreamReplica, read: Callable[[], ReplicaAccess]) -> None:
        """read: reads its files where they have changed. Blocks, and raises StateError."""
        self._read = read
        self._access: ReplicaAccess | None = None
        self.base_url = spec.base_url.rstrip("/")
        self.known = False
        self.busy = 0
        self.reason: str | None = None
        self.files_fault: str | None = None
        self._failures = 0
        self._silent = 0
        self._suspect = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether it gets requests."""
        return self.reason is None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        url = urlsplit(self.base_url)
        return f"{url.scheme}://{url.netloc}"

    async def access(self) -> ReplicaAccess:
        """What a request to it carries, as its files were at the latest probe. Raises StateError."""
        return self._access or await self.renewed_access()

    async def renewed_access(self) -> ReplicaAccess:
        """The same as its files say now. Raises StateError; then the old ones count on, where there are any."""
        self._access = await asyncio.to_thread(self._read)
        return self._access

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Counts one request inside the block."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    def answered(self) -> bool:
        """A probe went well. True where that is news."""
        news = not self.known or not self.up
        self.known, self.reason, self._failures, self._silent = True, None, 0, 0
        return news

    def failed(self, reason: str) -> bool:
        """A probe or a request found it down. True where that, or the reason, is news."""
        news = reason != self.reason
        self.known, self.reason = True, reason
        self._failures += 1
        self._suspect.set()
        return news

    def silent(self, reason: str) -> bool:
        """A probe had no answer in time. True where it is down for that now."""
        self._silent += 1
        return self.failed(reason) if self._silent >= SILENT_PROBES_MAX or not self.known else False

    def pause_seconds(self, probe_seconds: float) -> float:
        """Until the next probe: one that is down is asked soon, and then ever less often."""
        return probe_seconds if self.up else backoff_seconds(self._failures, probe_seconds)

    async def nap(self, seconds: float) -> None:
        """Waits for the next probe; less where a request finds it down meanwhile."""
        was_up = self.up
        self._suspect.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._suspect.wait()
                if was_up:
                    await asyncio.sleep(self.pause_seconds(seconds))

    def snapshot(self) -> ReplicaSnapshot:
        """The present state."""
        return ReplicaSnapshot(base_url=self.base_url, busy=self.busy, reason=self.reason)


def least_busy(replicas: Sequence[Replica], tried: Collection[Replica]) -> Replica | None:
    """The one for the next request, of those that are up and not `tried`; of equals the first."""
    free = [replica for replica in replicas if replica.up and replica not in tried]
    return min(free, key=lambda replica: replica.busy, default=None)
