"""Serves one model, with three threads.

The main thread reads frames, renders templates and tokenises; the engine thread loads the model and then computes; a
third compiles what answers must be. All send.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from appliance.engine.constraint import Compiler
from appliance.engine.loop import EngineLoop
from appliance.engine.pooling.loop import PoolingLoop
from appliance.engine.pooling.reader import PoolingReader
from appliance.engine.pooling.scheduler import PoolingScheduler
from appliance.engine.pooling.vector_cache import VectorCache
from appliance.engine.prompt import Answers, ChatTemplate, PromptReader
from appliance.engine.runner import PoolingRunner, Runner
from appliance.engine.scheduler import Scheduler
from appliance.errors import LoadError, OutOfMemory, WireError
from appliance.types import ModelInfo
from appliance.wire import (
    HEARTBEAT_SECONDS,
    Abort,
    Add,
    Failed,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Resume,
    Step,
    ToWorker,
)
from appliance.worker.channel import Channel
from appliance.worker.ending import end_with
from appliance.worker.inspect import LoadRunner
from appliance.worker.intake import Intake
from appliance.worker.line import Line
from appliance.worker.nvml import own_device_bytes
from appliance.worker.pooling_intake import PoolingIntake
from appliance.worker.progress import Progress
from appliance.worker.watchdog import StepWatchdog, ends_after

# So much of a load's time may be spent, before the model is ready, on what would stop its streams later.
_WARM_UP_SHARE_MAX: Final = 0.1
# A daemon that does not come back in this time will not miss the model.
ALONE_SECONDS_MAX: Final = 900.0
_LOOK_SECONDS: Final = 0.01


class ModelServer:
    """What the main thread knows of the engine thread."""

    def __init__(self, job: Load, channel: Channel, load_runner: LoadRunner, line: Line | None = None) -> None:
        self._job = job
        self._channel = channel
        self._load_runner = load_runner
        self._line = line
        self._loaded: Loaded | None = None
        # Numbers of the daemon that is there. The main thread adds, whoever sends the end of a request removes.
        self._outstanding: set[int] = set()
        # Set by the engine thread before it sends Loaded; the daemon sends requests only after that frame.
        self._loop: EngineLoop | PoolingLoop | None = None
        self._intake: Intake | PoolingIntake | None = None

    def run(self, messages: Iterator[ToWorker | None]) -> None:
        """The main thread: takes what the daemon sends until it closes the connection.

        Where there is a line, and the model is loaded, until nobody comes over it any more.
        """
        # One thread loads and computes: with a second one OpenMP makes a second team, and both stop spinning.
        threading.Thread(target=end_with, args=(self._run_engine,), name="engine", daemon=True).start()
        self._serve(messages)
        while self._line is not None and self._loaded is not None and self._abandon(self._line):
            if (connection := self._line.next(ALONE_SECONDS_MAX)) is None:
                return
            self._channel.replace(connection)
            self._serve(self._channel.messages(wake_seconds=HEARTBEAT_SECONDS))

    def _abandon(self, line: Line) -> bool:
        """Ends the requests of a daemon that has gone; False where nobody will come after it.

        Their ends are gone before another daemon is heard, whose numbers may be the same.
        """
        for number in list(self._outstanding):
            assert self._intake is not None
            self._intake.abort(Abort(number=number))
        while self._outstanding and not line.has_ended():
            time.sleep(_LOOK_SECONDS)
        return not line.has_ended()

    def _serve(self, messages: Iterator[ToWorker | None]) -> None:
        for message in messages:
            match message:
                case None:
                    pass
                case Resume() if self._loaded is not None:
                    self._channel.send(self._loaded)
                case Add() if self._intake is not None:
                    self._outstanding.add(message.number)
                    self._intake.add(message)
                case Abort() if self._intake is not None:
                    self._intake.abort(message)
                case _:
                    raise WireError(f"unexpected {type(message).__name__} frame")
            self._beat()

    def _beat(self) -> None:
        """Speaks for the engine while a step takes long; one that never ends is the watchdog's."""
        loop, intake = self._loop, self._intake
        if loop is None or intake is None:
            return
        works = loop.busy or (isinstance(intake, Intake) and intake.constraining.waiting)
        if works and time.monotonic() - self._channel.last_sent >= HEARTBEAT_SECONDS:
            self._channel.send(loop.status)

    def _run_engine(self) -> None:
        job = self._job
        try:
            with ends_after(job.load_seconds_max):
                runner = self._load_runner(job.spec, Progress(self._channel.send).report)
                loop = self._pooling(runner) if isinstance(runner, PoolingRunner) else self._generating(runner)
        except LoadError as error:
            lack = error.lack if isinstance(error, OutOfMemory) else None
            self._channel.send(LoadFailed(reason=str(error), lack=lack))
            return
        # What stays for the life of the process need not be looked through again by any collection of garbage.
        gc.freeze()
        self._loaded = Loaded(info=_measured(runner.info), spec=job.spec, pid=os.getpid())
        self._channel.send(self._loaded)
        loop.run()

    def _send(self, step: Step) -> None:
        self._channel.send(step)
        for event in step.events:
            if isinstance(event, Finished | Failed):
                self._outstanding.discard(event.number)

    def _generating(self, runner: Runner) -> EngineLoop:
        reader = _prompt_reader(self._job, runner)
        watchdog = StepWatchdog(self._job.step_seconds_max, runner.limits.n_ubatch)
        loop = self._loop = EngineLoop(runner, Scheduler(runner.limits), watchdog, self._send)
        compiler = Compiler(runner.vocabulary)
        if compiler.warm_up_seconds <= runner.info.load_seconds * _WARM_UP_SHARE_MAX:
            compiler.warm_up()
        self._intake = intake = Intake(reader, runner.preparer, compiler, loop, runner.limits.n_ctx, self._send)
        run = intake.constraining.run
        threading.Thread(target=end_with, args=(run,), name="constraining", daemon=True).start()
        return loop

    def _pooling(self, runner: PoolingRunner) -> PoolingLoop:
        reader = PoolingReader(
            runner.tokenizer,
            runner.info.kind,
            n_ctx=runner.limits.n_ctx,
            dimensions=runner.info.embedding_length,
            rerank_template=runner.rerank_template,
        )
        watchdog = StepWatchdog(self._job.step_seconds_max, runner.limits.step_tokens)
        scheduler = PoolingScheduler(runner.limits, VectorCache(self._job.spec.embedding_cache_mib * 2**20))
        loop = self._loop = PoolingLoop(runner, scheduler, watchdog, self._send)
        self._intake = PoolingIntake(reader, loop, self._send)
        return loop


def _measured(info: ModelInfo) -> ModelInfo:
    """With what the driver says that this process takes of each GPU."""
    if info.memory is None or not info.gpu_layers:
        return info
    return replace(info, memory=replace(info.memory, devices=own_device_bytes()))


def _prompt_reader(job: Load, runner: Runner) -> PromptReader:
    template, answers = None, None
    if runner.chat_template is not None:
        answers = Answers(runner.chat_template, job.spec, runner.vocabulary)
        try:
            template = ChatTemplate(
                runner.chat_template,
                bos=runner.vocabulary.bos_text,
                eos=runner.vocabulary.eos_text,
                seconds_max=job.template_seconds_max,
                tools=answers.format.tools,
            )
        except LoadError as error:
            raise LoadError(f"{Path(job.spec.path).name}: {error}") from None
    return PromptReader(runner.vocabulary, template, runner.limits.n_ctx, answers)
