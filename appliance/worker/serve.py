"""What a worker process does on its socket: the job that the first frame says.

It serves one model (`worker.model_server`), tries one (`worker.inspect`), writes one with smaller weights
(`worker.quantize`), or watches the machine (`worker.hardware`). When the daemon closes the connection the process ends
at once, also in the middle of a step. llama.cpp takes its time to import and 25 MiB, so that only a job which needs it
does; where no job has come yet this is a spare, which gets ready for the one that is waited for.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from msgspec.structs import replace

from appliance.errors import WireError
from appliance.wire import HEARTBEAT_SECONDS, Inspect, Load, Quantize, ToWorker, WatchHardware
from appliance.worker.channel import Channel
from appliance.worker.ending import end_with
from appliance.worker.line import Line
from appliance.worker.process_name import ENGINE, HARDWARE, QUANTIZER, SPARE, name_process
from appliance.worker.progress import Progress

if TYPE_CHECKING:
    from appliance.worker.inspect import LoadRunner


def serve(connection: socket.socket, load_runner: LoadRunner | None = None, line: Line | None = None) -> NoReturn:
    """Ends the process: with status 0 when the daemon has gone or the model cannot be served, else with 1.

    load_runner: in place of llama.cpp's. line: what further connections come over, to a model that is loaded.
    """
    end_with(lambda: _work(Channel(connection, lasting=line is not None), load_runner, line))


def _work(channel: Channel, load_runner: LoadRunner | None, line: Line | None) -> None:
    if not channel.has_word():
        name_process(SPARE)
        import_module("appliance.worker.model_server")
    messages = channel.messages(wake_seconds=HEARTBEAT_SECONDS)
    match next((message for message in messages if message is not None), None):
        case None:
            pass
        case Load() as job:
            from appliance.worker.model_server import ModelServer

            name_process(ENGINE)
            ModelServer(job, channel, load_runner or _llama_load(), line).run(messages)
        case Inspect() as job:
            from appliance.worker.inspect import inspect

            # Here, where templates have their deadline.
            _hold_life_line(messages)
            channel.send(inspect(job, load_runner or _llama_load(), Progress(channel.send).report))
        case Quantize() as job:
            from appliance.engine.runner import quantize
            from appliance.worker.quantize import quantize_model

            name_process(QUANTIZER)
            _hold_life_line(messages)
            channel.send(quantize_model(_written_to(line, job), quantize, channel.send))
        case WatchHardware() as job:
            from appliance.worker.hardware import watch_hardware

            name_process(HARDWARE)
            watch_hardware(job, messages, channel.send)
        case other:
            raise WireError(f"unexpected {type(other).__name__} as the first frame")


def _written_to(line: Line | None, job: Quantize) -> Quantize:
    """With the target as this process reaches it: where it may write nothing, the daemon hands it the open file."""
    if line is None or (fd := line.next_fd()) is None:
        return job
    return replace(job, order=replace(job.order, target=f"/proc/self/fd/{fd}"))


def _llama_load() -> LoadRunner:
    from appliance.engine.runner import load_any

    return load_any


def _hold_life_line(messages: Iterator[ToWorker | None]) -> None:
    """From here on a thread of its own ends the process when the daemon goes."""
    threading.Thread(target=end_with, args=(lambda: _expect_nothing(messages),), name="life line", daemon=True).start()


def _expect_nothing(messages: Iterator[ToWorker | None]) -> None:
    for message in messages:
        if message is not None:
            raise WireError(f"unexpected {type(message).__name__} frame after a job that takes none")
