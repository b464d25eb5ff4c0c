"""From nothing to a worker that has a model loaded: one that was kept, or a new one, with less where memory lacks."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from appliance.config import WorkerLimits
from appliance.errors import LoadError, OutOfMemory, WireError
from appliance.models.file_identity import FileIdentity
from appliance.models.kept import KeptWorkers
from appliance.models.launcher import Launcher, WorkerLink, exit_text
from appliance.models.provenance import content_of
from appliance.placement.advice import out_of_memory_sentence
from appliance.placement.retry import PLACED, Attempt, next_attempt
from appliance.tasks import TaskOwner
from appliance.types import ModelInfo, ModelSpec
from appliance.wire import Load, Loaded, LoadFailed, Loading, Resume

_log = logging.getLogger(__name__)

# One that was kept has its model loaded and only has to say so.
RESUME_SECONDS_MAX: Final = 30.0

# The worker ends itself at its own deadline; this much later it is ended, where it cannot.
_LATE_SECONDS: Final = 10.0

# Whether a file may be loaded. Blocks for a moment; raises LoadError.
FileCheck = Callable[[Path], None]

# Told how a worker that was kept has loaded the model, and what it found.
Resumed = Callable[[ModelSpec, ModelInfo], Awaitable[None]]


def any_file(path: Path) -> None:
    """Every file may."""


async def _nobody_told(spec: ModelSpec, info: ModelInfo) -> None:
    pass


@dataclass(frozen=True, slots=True)
class LoadedWorker:
    """spec: as it was loaded. smaller: what of that is less than configured, for want of memory. digest: of the file's
    content; None where it could not be read in time.
    """

    link: WorkerLink
    spec: ModelSpec
    info: ModelInfo
    digest: str | None
    smaller: str | None = None


class ModelLoader:
    """Loads one model, one worker at a time. All methods belong to the event loop.

    name: of the instance. find_room: asked before each try, for how to load it; raises LoadError. check_file: asked in
    a thread before each load. lacked: told when a load that lacked memory is tried again, with the bytes that each GPU
    is expected to need beyond what was. ways: what would make it take less where so many bytes were lacking, best
    first. resumed: told of a worker that was kept. file: which one is loaded, or was last; None before. progress: of
    the load, 0 to 1.
    """

    def __init__(
        self,
        name: str,
        launcher: Launcher,
        limits: WorkerLimits,
        kept: KeptWorkers,
        tasks: TaskOwner,
        find_room: Callable[[], Awaitable[ModelSpec]],
        check_file: FileCheck = any_file,
    ) -> None:
        self.lacked: Callable[[int], None] = lambda device_bytes: None
        self.ways: Callable[[int], Sequence[str]] = lambda lack_bytes: ()
        self.resumed: Resumed = _nobody_told
        self.file: FileIdentity | None = None
        self.progress = 0.0
        self._name = name
        self._launcher = launcher
        self._limits = limits
        self._kept = kept
        self._tasks = tasks
        self._find_room = find_room
        self._check_file = check_file
        self._attempt = Attempt()
        self._link: WorkerLink | None = None

    def kept_name(self, spec: ModelSpec) -> str:
        """Under which a worker is kept that has loaded its file as it is now."""
        return self._kept.name_of(spec, self._limits, FileIdentity.of(spec.path))

    def asked(self, spec: ModelSpec) -> ModelSpec:
        """What is to be placed: `spec`, with less where memory was wanting."""
        return self._attempt.spec(spec)

    async def load(self, spec: ModelSpec) -> LoadedWorker:
        """A worker that has loaded it, which is the caller's from then on. Raises LoadError, OSError, WireError."""
        self.progress, self._attempt = 0.0, Attempt()
        await asyncio.to_thread(self._check_file, Path(spec.path))
        return await self._resume(spec) or await self._load_anew(spec)

    def kill(self) -> None:
        """Ends a worker that is loading."""
        if self._link is not None:
            self._link.kill()

    async def _resume(self, spec: ModelSpec) -> LoadedWorker | None:
        """The one that was kept; None where there is none, or it has gone."""
        self.file = FileIdentity.of(spec.path)
        if (link := self._kept.take(self.kept_name(spec))) is None:
            return None
        self._link = link
        link.send(Resume())
        try:
            async with asyncio.timeout(RESUME_SECONDS_MAX):
                told = await link.receive()
            if not (told and isinstance(told[0], Loaded) and told[0].spec is not None):
                raise WireError("it did not say what it has loaded")
            # All else stands in its name, or counts as it is configured now.
            placed = replace(spec, **{field: getattr(told[0].spec, field) for field in PLACED})
            link.told_pid = told[0].pid
            await self.resumed(placed, told[0].info)
            digest = await content_of(spec.path, self.file)
        except (TimeoutError, WireError) as error:
            _log.warning("model %s: the worker that was kept cannot be used: %s", self._name, error or "no word")
            await link.close()
            return None
        except BaseException:
            await self._kept.close(link)
            raise
        finally:
            self._link = None
        _log.info("model %s: its worker has stayed", self._name)
        return LoadedWorker(link, placed, told[0].info, digest)

    async def _load_anew(self, spec: ModelSpec) -> LoadedWorker:
        """In a new one, tried again with less where memory lacks."""
        tried = list[str]()
        while True:
            placed = await self._find_room()
            smaller = self._attempt.words(placed)
            _log.info("model %s: loading %s%s", self._name, placed.path, f" with {smaller}" if smaller else "")
            try:
                return await self._try(placed, smaller)
            except OutOfMemory as error:
                tried += [smaller] if smaller else []
                following = next_attempt(spec, placed, error.lack, self._attempt)
                if following is None:
                    ways = self.ways(error.lack.bytes)
                    raise LoadError(out_of_memory_sentence(str(error), tried, ways)) from None
                _log.warning("model %s: %s; it is tried again with less", self._name, error)
                self.lacked(following.device_bytes - self._attempt.device_bytes)
                self._attempt = following

    async def _try(self, placed: ModelSpec, smaller: str) -> LoadedWorker:
        """One worker. Raises OutOfMemory too."""
        self.file = FileIdentity.of(placed.path)
        link = self._link = await self._launcher.launch()
        # Read while the worker reads it too: the disk is asked once.
        content = self._tasks.spawn(content_of(placed.path, self.file), name="content")
        try:
            info = await self._loaded(link, placed)
            return LoadedWorker(link, placed, info, await content, smaller or None)
        except BaseException:
            await link.close()
            raise
        finally:
            self._link = None
            self._launcher.prepare()

    async def _loaded(self, link: WorkerLink, placed: ModelSpec) -> ModelInfo:
        seconds = self._seconds_max()
        link.send(
            Load(
                spec=placed,
                load_seconds_max=seconds,
                step_seconds_max=self._limits.step_seconds_max,
                template_seconds_max=self._limits.template_seconds_max,
            )
        )
        try:
            async with asyncio.timeout(seconds + _LATE_SECONDS):
                while messages := await link.receive():
                    for message in messages:
                        if isinstance(message, Loaded):
                            link.told_pid = message.pid
                            return message.info
                        if isinstance(message, LoadFailed):
                            if message.lack is not None:
                                raise OutOfMemory(message.reason, message.lack)
                            raise LoadError(message.reason)
                        if isinstance(message, Loading):
                            self.progress = message.fraction
        except TimeoutError:
            link.kill()
            raise LoadError(f"loading took longer than {seconds:.0f} s") from None
        status = await link.close()
        ended = f"the engine worker ended while it loaded {Path(placed.path).name} ({exit_text(status)})"
        if status == -signal.SIGKILL:
            # Nobody here did it. That is no proof, so that nothing smaller is tried.
            suspicion = "; where the kernel's log speaks of it, the machine ran out of memory"
            raise LoadError(out_of_memory_sentence(ended + suspicion, (), self.ways(0)))
        raise LoadError(f"{ended}; the service log has its last words")

    def _seconds_max(self) -> float:
        mib = 0.0 if self.file is None else self.file.bytes / 2**20
        return max(self._limits.load_seconds_min, mib / self._limits.load_mib_per_second_min)
