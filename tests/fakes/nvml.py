"""A libnvidia-ml.so.1 of our own, which pynvml takes for the driver's. It is compiled where a test needs it."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Final

VARIABLE: Final = "FAKE_NVML"
SONAME: Final = "libnvidia-ml.so.1"


@functools.cache
def fake_nvml() -> Path:
    """The folder of the library, for LD_LIBRARY_PATH. In this process pynvml finds it from now on."""
    folder = Path(tempfile.mkdtemp(prefix="fake-nvml-"))
    source, library = Path(__file__).with_name("nvml.c"), folder / SONAME
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wno-unused-parameter", f"-Wl,-soname,{SONAME}"]
    subprocess.run([*command, "-o", str(library), str(source)], check=True)
    # What is loaded under this name already is what the dynamic linker gives to whoever asks for it.
    ctypes.CDLL(str(library))
    return folder
