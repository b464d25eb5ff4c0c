"""One model and the worker process that serves it: a state machine with a single writer.

    STOPPED ─▶ STARTING ─▶ READY ─▶ DRAINING ─▶ STOPPED
       ▲          │   ▲       │                    │
       │          ▼   │       ▼ (worker died)      │
       │          FAILED ◀────┘   pauses with back-off, then STARTING again when somebody wants the model
       └── a request, or an administrator, wants it ┘

Only the supervisor task changes the state, and those that end a worker: `unload` and `close`. Everybody else asks for
an outcome. STARTING begins with waiting for room, which `models/residency` finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, assert_never

from msgspec.structs import replace

from appliance.config import WorkerLimits
from appliance.errors import ErrorCode, LoadError, RequestError, WireError
from appliance.models.backlog import Backlog, Entry
from appliance.models.backoff import backoff_seconds
from appliance.models.file_identity import FileIdentity
from appliance.models.frames import add_frame, check_encodable
from appliance.models.kept import KeptWorkers
from appliance.models.launcher import Launcher, WorkerLink, exit_text
from appliance.models.loading import FileCheck, LoadedWorker, ModelLoader, any_file
from appliance.models.probing import PROBE, probe_prompt
from appliance.models.provenance import NO_PROVENANCE, Provenance
from appliance.models.queue_wait import ServiceTime
from appliance.models.snapshot import InstanceSnapshot, InstanceState
from appliance.models.stay import Stay
from appliance.models.stream import DEADLINE_RETRY_SECONDS, AnswerEnd, Origin, ResponseStream
from appliance.models.version import ModelVersion, fingerprint_of, version_of
from appliance.models.watchdog import Watchdog
from appliance.systemd import ServiceManager
from appliance.tasks import TaskOwner
from appliance.types import ModelInfo, ModelSpec, Request
from appliance.wire import (
    Abort,
    Add,
    Delta,
    Event,
    Failed,
    Finished,
    Pooled,
    PromptRead,
    Scored,
    Started,
    Step,
)

_log = logging.getLogger(__name__)

# How long a pause can last although it is over: `load` ends it.
_LOOK_SECONDS: Final = 1.0

# Failures of the moment, by the engine's word: when to try again, in seconds.
_RETRY_SECONDS: Final[Mapping[ErrorCode, int]] = {
    "queue_full": 2,
    "kv_cache_full": 2,
    "deadline_exceeded": DEADLINE_RETRY_SECONDS,
}


# A worker that keeps its deadline speaks before it is taken for stuck.
_GRACE_SECONDS: Final = 1.0

# Finds room for an instance that shall load, and says how. Raises LoadError where there will be none.
MakeRoom = Callable[["ModelInstance"], Awaitable[ModelSpec]]


async def _room_enough(instance: ModelInstance) -> ModelSpec:
    return instance.spec


class ModelInstance:
    """Runs `spec` in a worker when it is wanted. All methods belong to the event loop.

    check_file: see ModelLoader. make_room: asked before each try to load. changed: told whenever it has become idle, or
    has no worker any more. loaded: told when it is ready. settled: set once the first attempt to load has succeeded,
    failed, or been given up. loads_ended: how many have. pinned: never unloaded but by `unload`. generation: counts
    those that models.yaml has had under this id since the start. provenance: see there. kept: workers that stay when
    this process ends. loader: what brings the model into a worker.
    """

    def __init__(
        self,
        spec: ModelSpec,
        launcher: Launcher,
        limits: WorkerLimits,
        clock: Callable[[], float] = time.monotonic,
        check_file: FileCheck = any_file,
        make_room: MakeRoom = _room_enough,
        generation: int = 1,
        provenance: Provenance = NO_PROVENANCE,
        kept: KeptWorkers | None = None,
    ) -> None:
        self.spec = spec
        self.generation = generation
        self.pinned = spec.pinned
        self.changed: Callable[[], None] = lambda: None
        self.loaded: Callable[[ModelInfo], None] = lambda info: None
        self._kept = KeptWorkers(ServiceManager(None)) if kept is None else kept
        self._make_room = make_room
        self._provenance = provenance
        self._limits = limits
        self._clock = clock
        self._backlog = Backlog()
        self._tasks = TaskOwner(f"model {spec.id}")
        self.loader = ModelLoader(
            self.name, launcher, limits, self._kept, self._tasks, find_room=self._find_room, check_file=check_file
        )
        self._watchdog = Watchdog(self.name, limits, clock)
        self._state = InstanceState.STOPPED
        self._wanted = asyncio.Event()
        self._drained = asyncio.Event()
        self._quiet = asyncio.Event()
        self._ended = asyncio.Event()
        self.settled = asyncio.Event()
        self.loads_ended = 0
        self.service = ServiceTime()
        self._closing = False
        self._load_again = False
        self._unloading: asyncio.Task[None] | None = None
        self._leaving = False
        self._began = asyncio.Event()
        self._link: WorkerLink | None = None
        self._info: ModelInfo | None = None
        self._origin = Origin()
        self._step = Step()
        self._failures = 0
        self._restarts = 0
        self._retry_at = 0.0
        self._reason: str | None = None
        self._stay = Stay(self._expired, clock)
        self._supervisor: asyncio.Task[None] | None = None

    # ── what others ask for ───────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Starts the supervisor; a preloaded model begins to load, and one whose worker was kept goes on."""
        if self.spec.preload or self.has_stayed:
            self._wanted.set()
        self._supervisor = self._tasks.spawn(self._supervise(), name="supervisor")

    def load(self) -> None:
        """Begins to load, unless it is loaded; after a failure at once, and after an unloading that is under way."""
        self._retry_at = 0.0
        self._load_again = self._unloading is not None
        self._wanted.set()

    def unload(self, drain_seconds: float) -> asyncio.Task[None]:
        """Ends the worker once it is done with what it holds, or after `drain_seconds`, which cuts that short.

        A worker that is loading for somebody serves them first. One that is ready gets no request from this call on:
        those that come wait for the next worker, and start it. Returns what ends with the worker; shield it, or wait
        for it.
        """
        if self._unloading is None:
            # Who waits for a load that is under way is served first.
            self._leaving = self._state is InstanceState.READY or not len(self._backlog)
            self._unloading = self._tasks.spawn(self._unload(drain_seconds), name="unload")
        return self._unloading

    def submit(self, choices: Sequence[Request], wake: asyncio.Event) -> list[ResponseStream]:
        """Takes one request's choices, all or none; a model that is not loaded begins to load.

        choices: the same request but for the seed. wake: set whenever one of the streams has something to read.
        Raises RequestError (model_unavailable, shutting_down) when it cannot be taken now, invalid_request when its
        frames are too large. The caller must `drop` each stream when it stops reading before the end.
        """
        self._refuse_if_unavailable()
        check_encodable(choices)
        now = self._clock()
        streams = [
            ResponseStream(request, deadline=now + request.seconds_max, choice=index, wake=wake)
            for index, request in enumerate(choices)
        ]
        for stream in streams:
            self._backlog.add(stream)
        self._drained.clear()
        self._keep(choices[0].keep_seconds)
        self._wanted.set()
        self._dispatch()
        return streams

    def drop(self, stream: ResponseStream) -> None:
        """The reader has left: an unfinished request is aborted, its slot is free at the worker's next step."""
        # It has been used until now.
        self._keep(stream.request.keep_seconds)
        self._drop(stream)

    def _drop(self, stream: ResponseStream) -> None:
        number = self._backlog.drop(stream)
        if number is not None and self._link is not None:
            self._send(self._link, Abort(number=number))
        self._dispatch()
        self._note_drained()

    async def close(self, drain_seconds: float) -> None:
        """Takes no new request, lets running ones finish for at most `drain_seconds`, and ends the worker."""
        self._closing = True
        self._state = InstanceState.DRAINING
        self._stay.hold()
        if self._link is not None and len(self._backlog):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_seconds):
                    await self._drained.wait()
        self._backlog.fail_all(_stopping())
        await self._tasks.close()
        self._state = InstanceState.STOPPED

    def hurry(self) -> None:
        """Ends the wait of `close`: what still runs is cut."""
        self._drained.set()

    @property
    def name(self) -> str:
        """Of this instance: two of one model may be there while one takes the other's place."""
        return self.spec.id if self.generation == 1 else f"{self.spec.id}#{self.generation}"

    @property
    def kept_name(self) -> str:
        """Under which a worker is kept that has loaded its file as it is now."""
        return self.loader.kept_name(self.spec)

    @property
    def has_stayed(self) -> bool:
        """Whether a worker that was kept has it loaded, and nobody has taken it."""
        return self._kept.has(self.kept_name)

    @property
    def origin(self) -> Origin:
        """Of the answers of the worker that is there, or was there last; nothing is known before."""
        return self._origin

    @property
    def wanted(self) -> ModelSpec:
        """How it shall be loaded: `spec`, with less where memory was wanting."""
        return self.loader.asked(self.spec)

    def adjust(self, spec: ModelSpec) -> None:
        """Takes over what counts without a new worker; the rest of `spec` must be as it is."""
        if spec.pinned != self.spec.pinned:
            self.pinned = spec.pinned
        renewed, self.spec = spec.ttl != self.spec.ttl, spec
        if renewed:
            self._stay.begin_anew()
            self._keep(None)
        self._note_drained()

    async def probe(self, seconds: float) -> None:
        """Has the worker compute one token, or one vector; does nothing where it is not ready.

        Raises RequestError, TimeoutError. It is no use of the model: it neither keeps it loaded nor loads it.
        """
        if self._state is not InstanceState.READY or self.unloading:
            return
        request = Request(
            id="probe",
            model=self.spec.id,
            principal=PROBE,
            prompt=probe_prompt(self._info.kind if self._info is not None else "chat"),
            cache_domain=PROBE,
            max_tokens=1,
            seconds_max=seconds,
        )
        stream = ResponseStream(request, deadline=self._clock() + seconds)
        self._backlog.add(stream)
        self._dispatch()
        try:
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                while not isinstance(await stream.next(), AnswerEnd):
                    pass
        finally:
            self._drop(stream)

    @property
    def state(self) -> InstanceState:
        """Where it is now."""
        return self._state

    @property
    def busy(self) -> bool:
        """Whether it works, is about to, or is on its way in or out."""
        return bool(len(self._backlog)) or self._state in (InstanceState.STARTING, InstanceState.DRAINING)

    @property
    def used_at(self) -> float:
        """When the last request began or ended, or it was loaded, on its clock."""
        return self._stay.used_at

    @property
    def unloading(self) -> bool:
        """Whether it shall have no worker."""
        return self._leaving

    def pin(self, pinned: bool) -> None:
        """Until the next start, in place of what models.yaml says."""
        self.pinned = pinned
        self._note_drained()

    def snapshot(self) -> InstanceSnapshot:
        """The present state."""
        return InstanceSnapshot(
            state=self._state,
            info=self._info,
            progress=self.loader.progress,
            outstanding=len(self._backlog),
            running=self._step.running,
            waiting=self._step.waiting,
            kv_cells=self._step.kv_cells,
            steps=self._step.steps,
            device_seconds=self._step.device_seconds,
            host_seconds=self._step.host_seconds,
            preemptions=self._step.preemptions,
            restarts=self._restarts,
            pid=None if self._link is None else self._link.pid,
            reason=self._reason,
            pinned=self.pinned,
            idle_seconds=0.0 if len(self._backlog) else self._stay.idle_seconds,
            expires_seconds=self._stay.seconds_left,
            silent_seconds=self._watchdog.silent_seconds,
        )

    # ── the supervisor ────────────────────────────────────────────────────────────────────────────────────────────

    async def _supervise(self) -> None:
        while True:
            await self._wanted.wait()
            if (pause := self._retry_at - self._clock()) > 0:
                await asyncio.sleep(min(pause, _LOOK_SECONDS))
                continue
            self._state = InstanceState.STARTING
            self._began.clear()
            self._ended.clear()
            try:
                status = await self._serve_once()
            except (LoadError, OSError, WireError) as error:
                if self.unloading:
                    self._unloaded()
                else:
                    self._load_failed(str(error))
            except Exception as error:
                _log.exception("model %s: the supervisor failed", self.name)
                self._load_failed(f"an internal error: {type(error).__name__}")
            else:
                if self._closing:
                    _log.error("model %s: the worker ended while it drained (%s)", self.name, exit_text(status))
                    self._drained.set()
                    return
                if self.unloading and not self._backlog.in_flight:
                    self._unloaded()
                else:
                    self._crashed(status)
            self._unloading, self._leaving = None, False
            self._began.set()
            self._ended.set()
            self.changed()

    async def _serve_once(self) -> int | None:
        """One worker from its start to its end, and its exit status. Raises LoadError when it never got ready."""
        worker = await self.loader.load(self.spec)
        link = worker.link
        try:
            version = None if worker.digest is None else version_of(worker.spec, worker.info, worker.digest)
            self._origin = Origin(system_fingerprint=None if version is None else fingerprint_of(version))
            self._ready(worker)
            watches = [
                self._tasks.spawn(self._trace(worker.spec.path, version), name="provenance"),
                self._tasks.spawn(self._watchdog.watch_silence(link), name="silence"),
                self._tasks.spawn(
                    self._watchdog.watch_health(link, self.probe, lambda: bool(len(self._backlog))), name="health"
                ),
            ]
            try:
                while messages := await link.receive():
                    for message in messages:
                        self._take(message)
                    self._watchdog.note_heard(owes_more=bool(self._backlog.in_flight))
            except WireError as error:
                _log.error("model %s: the worker broke the protocol: %s", self.name, error)
            finally:
                for watch in watches:
                    watch.cancel()
        finally:
            self._link = None
            self._step = Step()
            self._watchdog.end()
            self._stay.hold()
            status = await self._kept.close(link)
        return status

    async def _trace(self, path: str, version: ModelVersion | None) -> None:
        """Has remembered what was loaded, and learns the hash of its file, which may take as long as reading it."""
        if version is not None:
            await self._provenance.keep(fingerprint_of(version), version)
        sha256 = await self._provenance.sha256_of(path)
        if FileIdentity.of(path) == self.loader.file:
            self._origin = replace(self._origin, file_sha256=sha256)

    async def _find_room(self) -> ModelSpec:
        spec = await self._make_room(self)
        if self.unloading:
            raise LoadError("it was unloaded before it began to load")
        return spec

    def _ready(self, worker: LoadedWorker) -> None:
        self._link, self._info = worker.link, worker.info
        self._reason = f"it runs with {worker.smaller} for want of memory" if worker.smaller else None
        self._kept.keep(self._kept.name_of(self.spec, self._limits, self.loader.file), worker.link)
        self._note_settled()
        info = worker.info
        self.loaded(info)
        self._watchdog.begin()
        self._stay.begin_anew()
        if self.unloading:
            return
        self._state = InstanceState.READY
        _log.info(
            "model %s is ready: %s, %d slots, %d tokens a request, loaded in %.1f s",
            *(self.name, info.description, info.parallel, info.n_ctx, info.load_seconds),
        )
        self._keep(None)
        self._dispatch()
        self._began.set()
        self._note_drained()

    def _take(self, message: object) -> None:
        if not isinstance(message, Step):
            raise WireError(f"unexpected {type(message).__name__} from a worker that is serving")
        self._step = message
        for event in message.events:
            self._deliver(event)
        if message.events:
            self._dispatch()
            self._note_drained()

    def _deliver(self, event: Event) -> None:
        match event:
            case Started() | Delta() | PromptRead() | Scored() | Pooled():
                if (stream := self._backlog.find(event.number)) is not None:
                    stream.push(event)
            case Finished():
                self._failures = 0
                if event.usage.completion_tokens:
                    self.service.note(event.timings.prefill_seconds + event.timings.decode_seconds)
                self._watchdog.note_served()
                self._backlog.end(event.number, event)
            case Failed():
                code = event.code or "internal_error"
                retry_after = _RETRY_SECONDS.get(code)
                self._backlog.end(
                    event.number,
                    RequestError(
                        code, event.message, param=event.param, retry_after=retry_after, details=event.details
                    ),
                )
            case _:
                assert_never(event)

    def _dispatch(self) -> None:
        """Sends what may be sent. A worker's scheduler owns the queue; nothing waits here without a reason."""
        if self._link is None or self.unloading:
            return
        for entry in self._backlog.sendable():
            entry.stream.origin = self._origin
            self._send(self._link, self._add(entry))
            self._quiet.clear()

    def _add(self, entry: Entry) -> Add:
        """The time a request has waited here, for a load or behind a crash, is gone from what the engine may take."""
        seconds = max(0.0, entry.stream.deadline - self._clock())
        return add_frame(entry.number, entry.stream.request, seconds)

    def _send(self, link: WorkerLink, message: Add | Abort) -> None:
        """Every Add and Abort is answered: from now on a word from the worker is due, whoever still waits for it."""
        link.send(message)
        self._watchdog.note_asked()

    # ── leaving ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _unload(self, drain_seconds: float) -> None:
        if self._state not in (InstanceState.STARTING, InstanceState.READY):
            # A crash may have left requests, which the next worker gets.
            if not len(self._backlog):
                self._wanted.clear()
            self._unloading, self._leaving = None, False
            return
        try:
            async with asyncio.timeout(drain_seconds):
                if not self._leaving:
                    await self._began.wait()
                    if self._ended.is_set():
                        return
                self._leave()
                await self._wait_until_quiet()
        except TimeoutError:
            self._leave()
            # Who comes from now on waits for the next worker; so does who this one has not got yet.
            if self._link is None:
                self._backlog.fail_all(_unloaded())
            else:
                self._backlog.fail_sent(_unloaded())
        if self._link is not None:
            self._link.hang_up()
        else:
            self.loader.kill()
        self.changed()
        await self._ended.wait()

    def _leave(self) -> None:
        self._leaving = True
        if self._link is not None:
            self._state = InstanceState.DRAINING
            self._stay.hold()

    async def _wait_until_quiet(self) -> None:
        if self._backlog.in_flight:
            self._quiet.clear()
            await self._quiet.wait()

    def _unloaded(self) -> None:
        _log.info("model %s is unloaded", self.name)
        self._note_settled()
        self._state = InstanceState.STOPPED
        self._reason = None
        if not (len(self._backlog) or self._load_again):
            self._wanted.clear()
        self._load_again = False

    def _keep(self, seconds: float | None) -> None:
        """It is in use, and shall stay so long after it; None: as models.yaml says."""
        self._stay.use(self.spec.ttl if seconds is None else seconds)

    def _expired(self) -> None:
        if not len(self._backlog) and self._state is InstanceState.READY:
            _log.info("model %s: not used for %.0f s", self.name, self._stay.idle_seconds)
            self.unload(0)

    # ── failures ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _crashed(self, status: int | None) -> None:
        self._failures += 1
        self._restarts += 1
        self._reason = f"the engine worker ended unexpectedly ({exit_text(status)})"
        _log.error("model %s: %s; %d requests outstanding", self.name, self._reason, len(self._backlog))
        self._backlog.crashed("the engine failed while it worked on this request; it is being restarted; try again")
        self._note_drained()
        # The first crash restarts at once; one that repeats with nothing served in between backs off.
        self._pause(self._failures - 1)

    def _load_failed(self, reason: str) -> None:
        self._failures += 1
        self._reason = reason
        self._note_settled()
        _log.error("model %s cannot be served: %s", self.name, reason)
        self._pause(self._failures)
        self._backlog.fail_all(self._unavailable())
        if not self.spec.preload:
            self._wanted.clear()

    def _note_settled(self) -> None:
        self.loads_ended += 1
        self.settled.set()

    def _note_drained(self) -> None:
        if not self._backlog.in_flight:
            self._quiet.set()
        if not len(self._backlog):
            self._drained.set()
            if self.pinned or self._state is not InstanceState.READY:
                self._stay.hold()
            else:
                self._stay.let_expire()
            self.changed()

    def _pause(self, failures: int) -> None:
        self._retry_at = self._clock() + backoff_seconds(failures, self._limits.backoff_seconds_max)
        self._state = InstanceState.FAILED

    def _refuse_if_unavailable(self) -> None:
        if self._closing or self._supervisor is None:
            raise _stopping()
        if self._state is InstanceState.FAILED and self._clock() < self._retry_at:
            raise self._unavailable()

    def _unavailable(self) -> RequestError:
        return RequestError(
            "model_unavailable",
            f"model {self.spec.id!r} cannot be served now, try again later: {self._reason}",
            retry_after=max(1, math.ceil(self._retry_at - self._clock())),
        )


def _unloaded() -> RequestError:
    return RequestError("model_unavailable", "the model was unloaded; try again", retry_after=1)


def _stopping() -> RequestError:
    return RequestError("shutting_down", "the service is stopping; try again shortly", retry_after=5)
