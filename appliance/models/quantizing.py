"""Writing a model with smaller weights: in a worker of its own, which is thrown away."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from appliance.config import WorkerLimits
from appliance.errors import LoadCrash, LoadError, WireError
from appliance.models.launcher import Launcher, WorkerLink, exit_text, hand_over
from appliance.types import QuantizeOrder
from appliance.wire import Quantize, Quantized, QuantizeFailed, Quantizing

# The worker ends itself at its own deadline; this much later it is ended.
GRACE_SECONDS: Final = 10.0


async def quantize_model(
    order: QuantizeOrder, launcher: Launcher, limits: WorkerLimits, progress: Callable[[int], None]
) -> None:
    """Returns once the target is complete; who cancels it ends the worker. progress: bytes written, ever more.

    Raises LoadError with a reason, LoadCrash where the worker died or wrote nothing for too long, what `progress`
    raises, and OSError where no worker could be started.
    """
    link = await launcher.launch()
    try:
        if link.line is not None:
            _hand_over_target(link.line, order.target)
        link.send(Quantize(order=order, stall_seconds_max=limits.quantize_stall_seconds))
        complete = await _outcome(link, limits.quantize_stall_seconds + GRACE_SECONDS, progress)
    except BaseException:
        link.kill()
        await link.close()
        raise
    status = await link.close()
    if not complete:
        raise LoadCrash(
            f"quantising ended the engine worker ({exit_text(status)}): it crashed, was stuck, or had no memory; the "
            "service log has its last words"
        )


def _hand_over_target(line: socket.socket, target: str) -> None:
    """A worker that is another user, in a file system that it may only read, can write this file and no other one."""
    fd = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        hand_over(line, fd)
    finally:
        os.close(fd)


async def _outcome(link: WorkerLink, silence_seconds_max: float, progress: Callable[[int], None]) -> bool:
    """False where the worker ended without a word."""
    written = 0
    while messages := await _receive(link, silence_seconds_max):
        for message in messages:
            match message:
                case Quantizing():
                    written = max(written, message.bytes_written)
                    progress(written)
                case Quantized():
                    return True
                case QuantizeFailed():
                    raise LoadError(message.reason)
                case _:
                    raise WireError(f"unexpected {type(message).__name__} from a worker that quantises")
    return False


async def _receive(link: WorkerLink, seconds: float) -> list[object]:
    try:
        async with asyncio.timeout(seconds):
            return list(await link.receive())
    except TimeoutError:
        raise LoadCrash(f"quantising wrote nothing for {seconds:.0f} s") from None
