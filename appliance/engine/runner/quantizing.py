"""Writes a model with smaller weights, by llama.cpp's own quantiser."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final, Literal

import llama_cpp
import psutil

from appliance.engine.runner.backends import load_backends
from appliance.engine.runner.native_log import NativeLog
from appliance.errors import LoadError
from appliance.types import QuantizeOrder

# Of one tensor at a time. By default llama.cpp takes up to 8 GiB, which the models that are being served need.
BUFFER_BYTES: Final = 128 * 2**20
_PREFIX: Final = "failed to quantize: "
_REASONS_MAX: Final = 3


def quantize(order: QuantizeOrder) -> None:
    """Writes `order.target`. Blocks for minutes, without the GIL.

    Raises LoadError with the reason; what is in the target then is of no use.
    """
    log = NativeLog()
    load_backends()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = order.file_type
    params.nthread = _threads(order.threads)
    params.allow_requantize = order.requantize
    params.max_buf_size = BUFFER_BYTES
    code = llama_cpp.llama_model_quantize(order.source.encode(), order.target.encode(), ctypes.byref(params))
    if code != 0:
        raise LoadError(_reason(order, log))


def _threads(wanted: int | Literal["auto"]) -> int:
    """`auto`: the physical cores but one, of those that the process may run on."""
    if wanted != "auto":
        return wanted
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed) - 1)


def _reason(order: QuantizeOrder, log: NativeLog) -> str:
    """llama.cpp says of a file that cannot be written no more than that."""
    # Another name of an open file says nothing to an operator.
    target = Path(order.target).resolve()
    try:
        room = os.statvfs(target)
        if room.f_bavail * room.f_frsize < BUFFER_BYTES:
            return f"no space is left on the disk of {target.parent}; make room and try again"
        if target.stat().st_size >= order.bytes_max:
            return f"the new file would become larger than {order.bytes_max} bytes, which it should not"
    except OSError as error:
        return f"the new file cannot be written: {error.strerror}"
    reasons = [reason.removeprefix(_PREFIX).rstrip(".") for reason in log.reasons()]
    return "; ".join(reasons[-_REASONS_MAX:]) or "llama.cpp gave no reason"
