"""What computes, by name and version: our own part, the bindings, llama.cpp, and for which kinds of device."""

from __future__ import annotations

import ctypes
import itertools
from typing import Final

import llama_cpp

from appliance import __version__

# Of include/llama.h and ggml's include/ggml.h; the bindings do not declare them.
_VERSIONS: Final = (("llama.cpp", "llama_version"), ("ggml", "ggml_version"), ("commit", "ggml_commit"))


def engine_build() -> str:
    """One line, the same on every host with the same build. A library too old to tell its version is passed over."""
    parts = [f"appliance {__version__}", f"llama-cpp-python {llama_cpp.__version__}"]
    for name, function in _VERSIONS:
        if (said := _said(function)) is not None:
            parts.append(f"{name} {said}")
    return ", ".join((*parts, _devices(llama_cpp.llama_print_system_info())))


def _devices(system_info: bytes) -> str:
    """CPU, CUDA and so on: what stands before each list of features, which differ from host to host. Pure."""
    words = system_info.decode(errors="replace").split()
    return "+".join(word for word, after in itertools.pairwise(words) if after == ":") or "no device"


def _said(function: str) -> str | None:
    try:
        call = getattr(llama_cpp.llama_cpp._lib, function)
    except AttributeError:
        return None
    call.restype = ctypes.c_char_p
    said: bytes | None = call()
    return None if said is None else said.decode(errors="replace")
