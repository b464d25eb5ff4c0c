"""Serves one model on one socket, with two threads; or tries one (`worker.inspect`), writes one with smaller weights
(`worker.quantize`), or watches the machine (`worker.hardware`).

The main thread reads frames, renders templates and tokenises; the engine thread loads the model and then computes.
Both send. When the daemon closes the connection the process ends at once, also in the middle of a step.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

from msgspec.structs import replace

from appliance.engine.loop import EngineLoop
from appliance.engine.prompt import ChatTemplate, PromptReader
from appliance.engine.runner import Runner, load, quantize
from appliance.engine.scheduler import Scheduler
from appliance.errors import LoadError, WireError
from appliance.types import ModelInfo, ModelSpec
from appliance.wire import (
    HEARTBEAT_SECONDS,
    Abort,
    Add,
    Inspect,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Quantize,
    ToWorker,
    WatchHardware,
)
from appliance.worker.channel import Channel
from appliance.worker.hardware import watch_hardware
from appliance.worker.inspect import inspect
from appliance.worker.intake import Intake
from appliance.worker.nvml import own_device_bytes
from appliance.worker.process_name import HARDWARE, QUANTIZER, name_process
from appliance.worker.quantize import quantize_model
from appliance.worker.watchdog import StepWatchdog, ends_after

_PROGRESS_SECONDS: Final = 0.1

LoadRunner = Callable[[ModelSpec, Callable[[float], None]], Runner]


def serve(connection: socket.socket, load_runner: LoadRunner = load) -> NoReturn:
    """Ends the process: with status 0 when the daemon has gone or the model cannot be served, else with 1."""
    worker = _Worker(Channel(connection), load_runner)
    _end_with(worker.read_frames)


class _Worker:
    def __init__(self, channel: Channel, load_runner: LoadRunner) -> None:
        self._channel = channel
        self._load_runner = load_runner
        self._engine: threading.Thread | None = None
        # Set by the engine thread before it sends Loaded; the daemon sends requests only after that frame.
        self._loop: EngineLoop | None = None
        self._intake: Intake | None = None

    def read_frames(self) -> None:
        """The main thread: takes what the daemon sends until it closes the connection."""
        messages = self._channel.messages(wake_seconds=HEARTBEAT_SECONDS)
        for message in messages:
            match message:
                case None:
                    pass
                case Inspect() if self._engine is None:
                    self._inspect(message, messages)
                    return
                case Quantize() if self._engine is None:
                    self._quantize(message, messages)
                    return
                case WatchHardware() if self._engine is None:
                    name_process(HARDWARE)
                    watch_hardware(message, messages, self._channel.send)
                    return
                case Load() if self._engine is None:
                    self._start_engine(message)
                case Add() if self._intake is not None:
                    self._intake.add(message)
                case Abort() if self._intake is not None:
                    self._intake.abort(message)
                case _:
                    raise WireError(f"unexpected {type(message).__name__} frame")
            self._beat()

    def _inspect(self, job: Inspect, messages: Iterator[ToWorker | None]) -> None:
        """Here, where templates have their deadline; another thread waits for the daemon to go."""
        _hold_life_line(messages)
        self._channel.send(inspect(job, self._load_runner, _Progress(self._channel).report))

    def _quantize(self, job: Quantize, messages: Iterator[ToWorker | None]) -> None:
        name_process(QUANTIZER)
        _hold_life_line(messages)
        self._channel.send(quantize_model(job, quantize, self._channel.send))

    def _beat(self) -> None:
        """Speaks for the engine while a step takes long; one that never ends is the watchdog's."""
        loop = self._loop
        if loop is not None and loop.busy and time.monotonic() - self._channel.last_sent >= HEARTBEAT_SECONDS:
            self._channel.send(loop.status)

    def _start_engine(self, job: Load) -> None:
        """One thread loads and computes: with a second one OpenMP makes a second team, and both stop spinning."""
        self._engine = threading.Thread(
            target=_end_with, args=(lambda: self._run_engine(job),), name="engine", daemon=True
        )
        self._engine.start()

    def _run_engine(self, job: Load) -> None:
        try:
            with ends_after(job.load_seconds_max):
                runner = self._load_runner(job.spec, _Progress(self._channel).report)
                reader = _prompt_reader(job, runner)
        except LoadError as error:
            self._channel.send(LoadFailed(reason=str(error)))
            return
        watchdog = StepWatchdog(job.step_seconds_max, runner.limits.n_ubatch)
        self._loop = EngineLoop(runner, Scheduler(runner.limits), watchdog, self._channel.send)
        self._intake = Intake(reader, runner.preparer, self._loop, runner.limits.n_ctx, self._channel.send)
        # What stays for the life of the process need not be looked through again by any collection of garbage.
        gc.freeze()
        self._channel.send(Loaded(info=_measured(runner.info)))
        self._loop.run()


def _measured(info: ModelInfo) -> ModelInfo:
    """With what the driver says that this process takes of each GPU."""
    if info.memory is None or not info.gpu_layers:
        return info
    return replace(info, memory=replace(info.memory, devices=own_device_bytes()))


class _Progress:
    """Sends Loading frames: rising fractions, not too many."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._fraction = 0.0
        self._sent = 0.0

    def report(self, fraction: float) -> None:
        now = time.monotonic()
        if fraction <= self._fraction or now - self._sent < _PROGRESS_SECONDS:
            return
        self._fraction, self._sent = min(fraction, 1.0), now
        # Called from C, where an exception would only be printed; the main thread sees that the daemon has gone.
        with contextlib.suppress(OSError):
            self._channel.send(Loading(fraction=self._fraction))


def _hold_life_line(messages: Iterator[ToWorker | None]) -> None:
    """From here on a thread of its own ends the process when the daemon goes."""
    threading.Thread(target=_end_with, args=(lambda: _expect_nothing(messages),), name="life line", daemon=True).start()


def _expect_nothing(messages: Iterator[ToWorker | None]) -> None:
    for message in messages:
        if message is not None:
            raise WireError(f"unexpected {type(message).__name__} frame after a job that takes none")


def _prompt_reader(job: Load, runner: Runner) -> PromptReader:
    template = None
    if runner.chat_template is not None:
        try:
            template = ChatTemplate(
                runner.chat_template,
                bos=runner.vocabulary.bos_text,
                eos=runner.vocabulary.eos_text,
                seconds_max=job.template_seconds_max,
            )
        except LoadError as error:
            raise LoadError(f"{Path(job.spec.path).name}: {error}") from None
    return PromptReader(runner.vocabulary, template, runner.limits.n_ctx)


def _end_with(work: Callable[[], None]) -> NoReturn:
    """Runs a thread's work and ends the process with it: neither thread is of use without the other."""
    status = 0
    try:
        work()
    except OSError:
        pass  # the daemon has gone
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    # Not sys.exit: the other thread may be deep in C, and libraries' destructors may wait for it.
    os._exit(status)
