"""What llama.cpp tells of a model that it has read, and why it could not."""

from __future__ import annotations

import ctypes
from typing import Any, Final, Literal

import llama_cpp

from appliance.engine.runner.native_log import NativeLog
from appliance.errors import LoadError, OutOfMemory
from appliance.gguf.pooling import POOLING_NAMES
from appliance.types import Pooling

_META_BYTES: Final = 256
_REASONS_MAX: Final = 3
# What llama.cpp says of a size that is not in its table.
_UNKNOWN_SIZE: Final = " ?B "


def description(model: Any) -> str:
    """For people: its architecture, size and quantisation, such as "qwen2 7B Q4_K - Medium"."""
    text = ctypes.create_string_buffer(_META_BYTES)
    llama_cpp.llama_model_desc(model, text, _META_BYTES)
    said = text.value.decode(errors="replace")
    return said.replace(_UNKNOWN_SIZE, f" {_size(llama_cpp.llama_model_n_params(model))} ", 1)


def _size(parameters: int) -> str:
    """As the names of models give it: 4.7M, 1.5B, 70B."""
    number, unit = (parameters / 1e9, "B") if parameters >= 1e9 else (parameters / 1e6, "M")
    return f"{number:.0f}{unit}" if number >= 10 else f"{number:.1f}{unit}"


def metadata(model: Any, key: str) -> str:
    """One entry of the file as text, "unknown" where there is none."""
    buffer = ctypes.create_string_buffer(_META_BYTES)
    length = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, _META_BYTES)
    return buffer.value.decode(errors="replace") if length >= 0 else "unknown"


def file_pooling(model: Any, architecture: str) -> Pooling | None:
    """How the file says that its texts become vectors; None where it does not."""
    said = metadata(model, f"{architecture}.pooling_type")
    return POOLING_NAMES.get(int(said)) if said.isdecimal() else None


def failure(log: NativeLog, part: Literal["weights", "cache"], what: str, advice: str) -> LoadError:
    """By llama.cpp's own word. advice: for everything but want of memory, which the daemon knows more of."""
    reasons = log.reasons()[-_REASONS_MAX:] or ["llama.cpp gave no reason"]
    said = what + "; ".join(reason.rstrip(".") for reason in reasons)
    lack = log.lack(part)
    return LoadError(f"{said}; {advice}") if lack is None else OutOfMemory(said, lack)
