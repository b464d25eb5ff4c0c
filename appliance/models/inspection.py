"""The trial of a model file before it may be used: in a worker of its own, which is thrown away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.config import WorkerLimits
from appliance.errors import LoadCrash, LoadError, WireError
from appliance.models.launcher import Launcher, WorkerLink, exit_text
from appliance.types import ModelInfo
from appliance.wire import Inspect, Inspected, LoadFailed, Loading

# The worker ends itself at its own deadline; this much later it is ended.
GRACE_SECONDS: Final = 10.0


async def inspect_model(
    path: Path,
    launcher: Launcher,
    limits: WorkerLimits,
    *,
    size_bytes: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> ModelInfo:
    """What the worker found. progress: of the load, 0 to 1. size_bytes: of all files of the model.

    Raises LoadError with a reason where the model cannot be used, LoadCrash where it took the worker down or did not
    come to an end, and OSError where no worker could be started.
    """
    seconds = max(limits.load_seconds_min, size_bytes / 2**20 / limits.load_mib_per_second_min)
    link = await launcher.launch()
    try:
        link.send(Inspect(path=str(path), load_seconds_max=seconds, template_seconds_max=limits.template_seconds_max))
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            info = await _outcome(link, progress)
    except TimeoutError:
        link.kill()
        await link.close()
        raise LoadCrash(f"its trial took longer than {seconds:.0f} s") from None
    except BaseException:
        link.kill()
        await link.close()
        raise
    status = await link.close()
    if info is None:
        raise LoadCrash(
            f"its trial ended the engine worker ({exit_text(status)}): it crashed, was stuck, or failed; "
            "the service log has its last words"
        )
    return info


async def _outcome(link: WorkerLink, progress: Callable[[float], None]) -> ModelInfo | None:
    """None where the worker ended without a word."""
    while messages := await link.receive():
        for message in messages:
            match message:
                case Loading():
                    progress(message.fraction)
                case Inspected():
                    return message.info
                case LoadFailed():
                    raise LoadError(message.reason)
                case _:
                    raise WireError(f"unexpected {type(message).__name__} from a worker that inspects")
    return None
