from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from appliance.engine.runner.backends import load_backends, package_folder


def test_a_package_is_found_without_being_imported() -> None:
    assert (package_folder("llama_cpp") / "lib").is_dir()


def test_there_is_something_to_compute_with_once_they_are_loaded() -> None:
    for _ in range(2):
        load_backends()
    library = ctypes.CDLL(str(package_folder("llama_cpp") / "lib/libggml.so"))
    library.ggml_backend_reg_count.restype = ctypes.c_size_t
    assert library.ggml_backend_reg_count() > 0


def test_a_package_that_is_not_there_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        package_folder(f"no_such_package_{Path(__file__).stem}")
