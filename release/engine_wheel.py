"""llama-cpp-python as a wheel that runs on any x86-64: the processor's best instructions are chosen when it loads.

About ten minutes on two cores. The same source, compiler and options give the same bytes: the folder's name is mapped
out of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from release.trimmed_wheel import trim

# Beside the Python files, once: as a wheel knows no links, each versioned name would be another copy.
_LIBRARIES: Final = "llama_cpp/lib"
_OPTIONS: Final = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    # Its own threads serve as well, and libgomp is one library less to have.
    "-DGGML_OPENMP=OFF",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_OPENSSL=OFF",
    # What reads pictures: nothing here uses it.
    "-DLLAVA_BUILD=OFF",
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    f"-DCMAKE_INSTALL_BINDIR={_LIBRARIES}",
    f"-DCMAKE_INSTALL_LIBDIR={_LIBRARIES}",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    # Else the build folder's path is in what the linker makes, and its length stays in what is installed.
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-z,relro,-z,now",
    "-DCMAKE_MODULE_LINKER_FLAGS=-Wl,-z,relro,-z,now",
)
# llama.cpp installs these, whatever is asked of it; those for compilers name the folder that they were made in.
_UNWANTED: Final = (
    "include/*",
    f"{_LIBRARIES}/cmake/*",
    f"{_LIBRARIES}/pkgconfig/*",
    f"{_LIBRARIES}/libllama-common.so",
    "llama_cpp/server/*",
)


def build_engine_wheel(source: Path, to: Path, *, epoch: int) -> Path:
    """Compiles the unpacked source archive and gives the wheel in `to`. `epoch` is the time that files in it bear.

    Raises CalledProcessError with what pip said in `to`/engine-wheel.log.
    """
    work = to / "engine-wheel"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    flags = f"-ffile-prefix-map={source.resolve()}=. -ffile-prefix-map={(work / 'cmake').resolve()}=./build"
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": str(epoch),
        "CMAKE_ARGS": " ".join(_OPTIONS),
        "CFLAGS": flags,
        "CXXFLAGS": flags,
    }
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    with (to / "engine-wheel.log").open("wb") as log:
        subprocess.run(
            [*pip, "--no-cache-dir", "--wheel-dir", str(work), f"--config-settings=build-dir={work / 'cmake'}", source],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
    (wheel,) = work.glob("*.whl")
    trim(wheel, to / wheel.name, _UNWANTED)
    shutil.rmtree(work)
    return to / wheel.name
