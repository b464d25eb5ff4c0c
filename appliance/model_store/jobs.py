"""Work on models that takes minutes: who waits for it looks at it from time to time, and may end it."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

from msgspec import Struct

from appliance.clock import Clock
from appliance.errors import ApplianceError, ChangeRefused
from appliance.tasks import TaskOwner

LIVE_MAX: Final = 8
KEPT_MAX: Final = 64

JobKind = Literal["import", "verify", "quantize"]
JobState = Literal["waiting", "copying", "quantizing", "trying", "hashing", "done", "failed"]
T = TypeVar("T")


class JobView(Struct, frozen=True, kw_only=True):
    """What an observer sees. bytes_done, bytes_total: of what it does in this state. error: why it failed.

    result: what came of it once it is done.
    """

    id: str
    kind: JobKind
    name: str
    state: JobState
    bytes_done: int
    bytes_total: int
    begun: datetime
    error: str | None
    result: Any


class Job:
    """One piece of work on the model `name`. All but `advance` belongs to the event loop.

    reads: another model that it needs meanwhile.
    """

    def __init__(
        self, kind: JobKind, name: str, bytes_total: int, begun: datetime, *, reads: str | None = None
    ) -> None:
        self.id = secrets.token_hex(8)
        self.kind: JobKind = kind
        self.name = name
        self.reads = reads
        self.state: JobState = "waiting"
        self.error: str | None = None
        self.result: Any = None
        self._total = bytes_total
        self._begun = begun
        self._done = 0
        self._cancelled = False
        self.task: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether anything will still change."""
        return self.state in ("done", "failed")

    def advance(self, count: int) -> None:
        """So many bytes more are done. Any thread. Raises ChangeRefused where the work is to end."""
        self._done += count
        if self._cancelled:
            raise ChangeRefused("conflict", "it was cancelled; nothing of it is left")

    def reach(self, bytes_done: int) -> None:
        """So many bytes are done in this state. Raises ChangeRefused where the work is to end."""
        self.advance(max(0, bytes_done - self._done))

    def enter(self, state: JobState, bytes_total: int) -> None:
        """From here on another count of bytes is told."""
        self.state, self._done, self._total = state, 0, bytes_total

    def cancel(self) -> None:
        """Ends it at the next chunk, or at once where it waits for something else."""
        self._cancelled = True
        if self.task is not None:
            self.task.cancel()

    def view(self) -> JobView:
        """As it is now."""
        return JobView(
            id=self.id,
            kind=self.kind,
            name=self.name,
            state=self.state,
            bytes_done=min(self._done, self._total),
            bytes_total=self._total,
            begun=self._begun,
            error=self.error,
            result=self.result,
        )

    async def in_thread(self, executor: Executor, work: Callable[[], T], *, too_late_to_cancel: bool = False) -> T:
        """What `work` returns. A thread cannot be stopped, only asked: cancelling waits until it has heard it.

        too_late_to_cancel: what it does counts once it is done, whoever has cancelled meanwhile.
        """
        running = asyncio.get_running_loop().run_in_executor(executor, work)
        cancelled = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                self._cancelled, cancelled = True, error
        if cancelled is not None and not too_late_to_cancel:
            running.exception()
            raise cancelled
        return running.result()


class Jobs:
    """Runs them one after the other, and remembers the last ones. Belongs to the event loop."""

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._turn = asyncio.Lock()
        self._tasks = TaskOwner("model store")

    def start(
        self,
        kind: JobKind,
        name: str,
        bytes_total: int,
        work: Callable[[Job], Awaitable[Any]],
        *,
        reads: str | None = None,
    ) -> Job:
        """What `work` returns becomes the result, an ApplianceError the error. Raises ChangeRefused beyond LIVE_MAX."""
        live = [job for job in self._jobs.values() if not job.ended]
        if len(live) >= LIVE_MAX:
            raise ChangeRefused("conflict", f"{LIVE_MAX} pieces of work on models are under way; wait for one to end")
        if any(job.name == name for job in live):
            raise ChangeRefused("conflict", f"{name!r} is being imported, verified or quantised already")
        job = Job(kind, name, bytes_total, self._now(), reads=reads)
        self._jobs[job.id] = job
        while len(self._jobs) > KEPT_MAX:
            self._jobs.pop(next(key for key, one in self._jobs.items() if one.ended))
        job.task = self._tasks.spawn(self._run(job, work), name=f"{kind} {name}")
        return job

    def find(self, job_id: str) -> Job:
        """Raises ChangeRefused."""
        if (job := self._jobs.get(job_id)) is None:
            raise ChangeRefused("not_found", f"there is no job {job_id!r}; only the last {KEPT_MAX} are remembered")
        return job

    def views(self) -> list[JobView]:
        """Of all that are remembered, oldest first."""
        return [job.view() for job in self._jobs.values()]

    def works_on(self, name: str) -> bool:
        """Whether something is under way with this model."""
        return any(name in (job.name, job.reads) and not job.ended for job in self._jobs.values())

    async def close(self) -> None:
        """Cancels what is under way, and waits until it has cleaned up."""
        await self._tasks.close()

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[Any]]) -> None:
        try:
            async with self._turn:
                job.result = await work(job)
        except ApplianceError as error:
            job.error, job.state = str(error), "failed"
        except asyncio.CancelledError:
            job.error, job.state = "it was cancelled; nothing of it is left", "failed"
            raise
        except Exception as error:
            job.error, job.state = f"an internal error ({type(error).__name__}); the log says more", "failed"
            raise
        else:
            job.state = "done"
