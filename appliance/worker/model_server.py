"""Serves one model, with three threads.

The main thread reads frames, renders templates and tokenises; the engine thread loads the model and then computes; a
third compiles what answers must be. All send.
"""

from __future__ import annotations

import gc
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
from appliance.wire import HEARTBEAT_SECONDS, Abort, Add, Load, Loaded, LoadFailed, ToWorker
from appliance.worker.channel import Channel
from appliance.worker.ending import end_with
from appliance.worker.inspect import LoadRunner
from appliance.worker.intake import Intake
from appliance.worker.nvml import own_device_bytes
from appliance.worker.pooling_intake import PoolingIntake
from appliance.worker.progress import Progress
from appliance.worker.watchdog import StepWatchdog, ends_after

# So much of a load's time may be spent, before the model is ready, on what would stop its streams later.
_WARM_UP_SHARE_MAX: Final = 0.1


class ModelServer:
    """What the main thread knows of the engine thread."""

    def __init__(self, job: Load, channel: Channel, load_runner: LoadRunner) -> None:
        self._job = job
        self._channel = channel
        self._load_runner = load_runner
        # Set by the engine thread before it sends Loaded; the daemon sends requests only after that frame.
        self._loop: EngineLoop | PoolingLoop | None = None
        self._intake: Intake | PoolingIntake | None = None

    def run(self, messages: Iterator[ToWorker | None]) -> None:
        """The main thread: takes what the daemon sends until it closes the connection."""
        # One thread loads and computes: with a second one OpenMP makes a second team, and both stop spinning.
        threading.Thread(target=end_with, args=(self._run_engine,), name="engine", daemon=True).start()
        for message in messages:
            match message:
                case None:
                    pass
                case Add() if self._intake is not None:
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
        self._channel.send(Loaded(info=_measured(runner.info)))
        loop.run()

    def _generating(self, runner: Runner) -> EngineLoop:
        reader = _prompt_reader(self._job, runner)
        watchdog = StepWatchdog(self._job.step_seconds_max, runner.limits.n_ubatch)
        loop = self._loop = EngineLoop(runner, Scheduler(runner.limits), watchdog, self._channel.send)
        compiler = Compiler(runner.vocabulary)
        if compiler.warm_up_seconds <= runner.info.load_seconds * _WARM_UP_SHARE_MAX:
            compiler.warm_up()
        self._intake = intake = Intake(reader, runner.preparer, compiler, loop, runner.limits.n_ctx, self._channel.send)
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
        loop = self._loop = PoolingLoop(runner, scheduler, watchdog, self._channel.send)
        self._intake = PoolingIntake(reader, loop, self._channel.send)
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
