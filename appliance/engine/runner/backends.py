"""Finds what llama.cpp computes with, where the package brings it as libraries of their own.

A portable build has one library for each generation of processors, and takes the best that this one can run. A CUDA
build needs NVIDIA's runtime, which packages of PyPI bring into a folder that the loader does not look into.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CUDA_LIBRARIES: Final = ("libcudart.so.*", "libcublasLt.so.*", "libcublas.so.*")


def load_cuda_runtime() -> None:
    """What is loaded already is found by its name. Does nothing where there is none."""
    for library in _cuda_libraries():
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def load_backends() -> None:
    """Before a model is loaded, and once is enough. Does nothing where the backends are part of llama.cpp's library."""
    folder = package_folder("llama_cpp") / "lib"
    if not any(folder.glob("libggml-cpu-*.so")):
        return
    library = ctypes.CDLL(str(folder / "libggml.so"))
    library.ggml_backend_reg_count.restype = ctypes.c_size_t
    if library.ggml_backend_reg_count() == 0:
        library.ggml_backend_load_all_from_path(str(folder).encode())


def package_folder(name: str) -> Path:
    """Without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _cuda_libraries() -> Iterator[Path]:
    """In the order in which they need each other."""
    if importlib.util.find_spec("nvidia") is None:
        return
    folder = package_folder("nvidia")
    for pattern in _CUDA_LIBRARIES:
        yield from sorted(folder.glob(f"cu[0-9]*/lib/{pattern}"))


# Whoever imports llama_cpp after this module finds it done.
load_cuda_runtime()
