"""What llama.cpp says: errors, warnings and the sizes of its buffers are kept, the rest is dropped."""

from __future__ import annotations

import ctypes
import re
import sys
from collections import deque
from typing import Any, Final, Literal

import llama_cpp
import msgspec

from appliance.errors import MemoryLack
from appliance.types import EngineBuffer

_LINES_MAX: Final = 64
_LINE_CHARS_MAX: Final = 500
_BUFFERS_MAX: Final = 256
_INFO: Final = 2
_WARN: Final = 3
_ERROR: Final = 4
_CONTINUED: Final = 5

_PREFIX: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_:~]*: (error loading model: )?")
_BUFFER: Final = re.compile(r"(\S+) +(model|KV|RS|compute|output) buffer size = +([0-9.]+) MiB")
_ALLOCATION: Final = re.compile(r"failed to allocate (\S+) buffer of size (\d+)")
_NO_MEMORY: Final = (
    *("failed to allocate", "unable to allocate", "insufficient memory"),
    *("out of memory", "Cannot allocate memory", "bad_alloc"),
)
# Lines that only say again that something failed.
_NO_REASON: Final = ("failed to load model", "failed to initialize", "failed to read key-value pairs")


class NativeLog:
    """Takes llama.cpp's log over for the life of the process. Any thread may log; errors also go to stderr."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=_LINES_MAX)
        self._buffers: deque[EngineBuffer] = deque(maxlen=_BUFFERS_MAX)
        self._level = 0
        callback = llama_cpp.llama_log_callback(self._take)
        # llama.cpp may call it until the process ends, long after this object's last use: it is never freed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(callback))
        llama_cpp.llama_log_set(callback, None)

    def reasons(self) -> list[str]:
        """The distinct error lines so far, or the warnings where there are none, without names of functions."""
        for level in (_ERROR, _WARN):
            texts = [_PREFIX.sub("", text) for kept, text in self._lines if kept == level]
            useful = [text for text in texts if not any(phrase in text for phrase in _NO_REASON)]
            if useful or texts:
                return list(dict.fromkeys(useful or texts))
        return []

    def buffers(self) -> tuple[EngineBuffer, ...]:
        """What it has allocated so far; its API does not tell."""
        return tuple(self._buffers)

    def lack(self, part: Literal["weights", "cache"]) -> MemoryLack | None:
        """What could not be allocated, where that is what its errors say. part: what it was about."""
        errors = [text for level, text in self._lines if level == _ERROR]
        if not any(phrase in text for text in errors for phrase in _NO_MEMORY):
            return None
        found = [match for text in errors if (match := _ALLOCATION.search(text))]
        device, size = found[-1].groups() if found else ("", 0)
        computes = part == "cache" and any("compute" in text for text in errors)
        return MemoryLack(part="compute" if computes else part, device=device, bytes=int(size))

    def forget(self) -> None:
        """Drops what was kept so far."""
        self._lines.clear()
        self._buffers.clear()

    def _take(self, level: int, text: bytes, _data: Any) -> None:
        level = self._level if level == _CONTINUED else level
        self._level = level
        if level == _INFO and b" buffer size = " in text:
            self._take_buffer(text.decode(errors="replace"))
        if level < _WARN:
            return
        line = text.decode(errors="replace").strip()[:_LINE_CHARS_MAX]
        if line.strip("."):
            self._lines.append((level, line))
            if level == _ERROR:
                sys.stderr.write(f"llama.cpp: {line}\n")

    def _take_buffer(self, line: str) -> None:
        if (found := _BUFFER.search(line)) is not None:
            device, kind, mib = found.groups()
            self._buffers.append(
                msgspec.convert({"device": device, "kind": kind, "bytes": round(float(mib) * 2**20)}, EngineBuffer)
            )
