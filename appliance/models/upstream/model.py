"""One model that other servers serve: which of them a request goes to, and what happens when one fails.

A request is tried on one server after the other until one has begun to answer. Servers that cannot be reached get none
until a probe finds them well again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from typing import Final

from aiohttp import ClientSession

from appliance.errors import RequestError, StateError
from appliance.models.probing import PROBE
from appliance.models.snapshot import InstanceSnapshot, InstanceState
from appliance.models.stream import AnswerEnd
from appliance.models.upstream.exchange import TryFailed, exchange, open_session
from appliance.models.upstream.health import Unhealthy, check_health
from appliance.models.upstream.replica import Replica, least_busy
from appliance.models.upstream.request import Endpoint, UpstreamRequest, probe_request
from appliance.models.upstream.stream import UpstreamStream
from appliance.safe_text import safe_text
from appliance.tasks import TaskOwner
from appliance.upstream_spec import ReplicaAccess, UpstreamReplica, UpstreamSpec

_log = logging.getLogger(__name__)

# A request whose connection ended may be what ended it: it gets one more server, not all of them.
LOST_MAX: Final = 2

# What reads the files of a replica; see Replica.
Dial = Callable[[UpstreamReplica], Callable[[], ReplicaAccess]]


class UpstreamModel:
    """All methods belong to the event loop.

    settled: set once every replica has been asked for its health.
    """

    def __init__(self, spec: UpstreamSpec, dial: Dial) -> None:
        self.spec = spec
        self.settled = asyncio.Event()
        self._replicas = [Replica(replica, dial(replica)) for replica in spec.replicas]
        self._tasks = TaskOwner(f"model {spec.id}")
        self._calls: dict[UpstreamStream, asyncio.Task[None]] = {}
        self._drained = asyncio.Event()
        self._draining = False
        self._session: ClientSession | None = None
        self._n_ctx = spec.n_ctx
        self._endpoint: Endpoint = "chat/completions"

    # ── what others ask for ───────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Starts to ask the replicas for their health."""
        self._session = open_session()
        for replica in self._replicas:
            self._tasks.spawn(self._watch(replica), name=f"health of {replica.base_url}")

    def submit(self, request: UpstreamRequest) -> UpstreamStream:
        """Takes a request. The caller must `drop` the stream when it stops reading.

        Raises RequestError (model_unavailable, shutting_down) when it cannot be taken now.
        """
        if self._session is None or self._draining:
            raise RequestError("shutting_down", "the service is stopping; try again shortly", retry_after=5)
        if not any(replica.up for replica in self._replicas):
            raise self._unavailable()
        if request.principal != PROBE:
            self._endpoint = request.endpoint
        stream = UpstreamStream(request)
        self._drained.clear()
        self._calls[stream] = self._tasks.spawn(self._answer(self._session, stream), name=f"request {request.id}")
        return stream

    def drop(self, stream: UpstreamStream) -> None:
        """The reader has left: an unfinished request is aborted, and its server sees the connection end."""
        task = self._calls.pop(stream)
        if not stream.complete:
            task.cancel()
        if not self._calls:
            self._drained.set()

    async def probe(self, seconds: float) -> None:
        """Has one of the servers do the least of what it was asked for last. Raises RequestError, TimeoutError."""
        if self._state() is not InstanceState.READY:
            return
        stream = self.submit(probe_request(self.spec.id, self.spec.model or self.spec.id, self._endpoint, seconds))
        try:
            async with asyncio.timeout(seconds):
                while not isinstance(await stream.next(), AnswerEnd):
                    pass
        finally:
            self.drop(stream)

    async def close(self, drain_seconds: float) -> None:
        """Takes no new request, lets running ones finish for at most `drain_seconds`, and ends all connections."""
        self._draining = True
        if self._calls:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_seconds):
                    await self._drained.wait()
        for stream in self._calls:
            stream.finish(RequestError("shutting_down", "the service is stopping; try again shortly", retry_after=5))
        await self._tasks.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def hurry(self) -> None:
        """Ends the wait of `close`: what still runs is cut."""
        self._drained.set()

    def snapshot(self) -> InstanceSnapshot:
        """The present state: READY while one replica is up."""
        busy = sum(replica.busy for replica in self._replicas)
        return InstanceSnapshot(
            state=self._state(),
            info=None,
            progress=0.0,
            outstanding=len(self._calls),
            running=busy,
            waiting=len(self._calls) - busy,
            kv_cells=0,
            steps=0,
            device_seconds=0.0,
            host_seconds=0.0,
            preemptions=0,
            restarts=0,
            pid=None,
            reason="; ".join(f"{one.base_url} {one.reason}" for one in self._replicas if not one.up) or None,
            n_ctx=self._n_ctx,
        )

    def troubles(self) -> list[str]:
        """What an operator should look at: servers that are down, and files that do not count."""
        name = f"model {self.spec.id}"
        down = [f"{name}: {one.base_url}: {one.reason}" for one in self._replicas if one.reason is not None]
        files = [f"{name}: {one.base_url}: {one.files_fault}" for one in self._replicas if one.files_fault is not None]
        return down + files

    def _state(self) -> InstanceState:
        if self._session is None:
            return InstanceState.STOPPED
        if self._draining:
            return InstanceState.DRAINING
        if any(replica.known and replica.up for replica in self._replicas):
            return InstanceState.READY
        return InstanceState.FAILED if all(replica.known for replica in self._replicas) else InstanceState.STARTING

    # ── one request ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, session: ClientSession, stream: UpstreamStream) -> None:
        try:
            await self._try_all(session, stream)
        except RequestError as error:
            stream.finish(error)
        except Exception:
            _log.exception("model %s: request %s failed", self.spec.id, stream.request.id)
            stream.finish(
                RequestError(
                    "internal_error", "the appliance failed; try again, and tell its operator, whose log has more"
                )
            )

    async def _try_all(self, session: ClientSession, stream: UpstreamStream) -> None:
        """Until one has answered. Raises RequestError."""
        tried: list[Replica] = []
        lost = 0
        last = self._unavailable()
        while (replica := least_busy(self._replicas, tried)) is not None:
            tried.append(replica)
            try:
                await self._try(session, replica, stream)
                return
            except TryFailed as failure:
                last = failure.error
                lost += failure.found == "lost"
                if failure.found == "broken" or lost == LOST_MAX:
                    raise last from failure
                if failure.found == "lost" and least_busy(self._replicas, tried) is None:
                    # An idle connection may have ended just as it was taken: the server itself is well.
                    tried.remove(replica)
        raise last

    async def _try(self, session: ClientSession, replica: Replica, stream: UpstreamStream) -> None:
        """One try on one server. Raises TryFailed."""
        stream.try_again(replica.base_url)
        with replica.serving():
            try:
                await exchange(session, replica, await replica.access(), self.spec, stream)
            except StateError as error:
                self._down(replica, str(error))
                raise TryFailed("unreached", str(error), self._unavailable()) from error
            except TryFailed as failure:
                if failure.found in ("unreached", "refused"):
                    self._down(replica, str(failure))
                _log.log(
                    logging.DEBUG if failure.error.status < 500 else logging.WARNING,
                    "model %s: request %s failed at %s: %s",
                    *(self.spec.id, stream.request.id, replica.base_url, safe_text(str(failure))),
                )
                raise

    # ── the replicas ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self, replica: Replica) -> None:
        while True:
            try:
                await self._probe(replica)
            except Exception as error:
                _log.exception("model %s: the probe of %s failed", self.spec.id, replica.base_url)
                replica.failed(f"an internal error: {type(error).__name__}")
            if all(one.known for one in self._replicas):
                self.settled.set()
            await replica.nap(replica.pause_seconds(self.spec.probe_seconds))

    async def _probe(self, replica: Replica) -> None:
        assert self._session is not None
        try:
            n_ctx = await check_health(self._session, replica, await self._renewed(replica), self.spec)
        except StateError as error:
            self._down(replica, str(error))
        except Unhealthy as error:
            news = replica.silent(error.reason) if error.silent else replica.failed(error.reason)
            if news:
                _log.error("model %s: %s %s", self.spec.id, replica.base_url, error.reason)
        else:
            if self.spec.n_ctx is None and n_ctx is not None:
                self._n_ctx = n_ctx
            if replica.answered():
                _log.info("model %s: %s is up", self.spec.id, replica.base_url)

    async def _renewed(self, replica: Replica) -> ReplicaAccess:
        """What it is asked with. Raises StateError where its files have never been good."""
        try:
            access = await replica.renewed_access()
        except StateError as error:
            access = await replica.access()
            if str(error) != replica.files_fault:
                _log.error("model %s: %s: the old files count on: %s", self.spec.id, replica.base_url, error)
            replica.files_fault = str(error)
        else:
            replica.files_fault = None
        return access

    def _down(self, replica: Replica, reason: str) -> None:
        if replica.failed(reason):
            _log.error("model %s: %s %s", self.spec.id, replica.base_url, reason)

    def _unavailable(self) -> RequestError:
        """Where the servers are is the operator's business; the log and the status have the reasons."""
        seconds = min(replica.pause_seconds(self.spec.probe_seconds) for replica in self._replicas)
        return RequestError(
            "model_unavailable",
            f"model {self.spec.id!r} cannot be served: none of its servers is up; try again later",
            retry_after=max(1, math.ceil(seconds)),
        )
