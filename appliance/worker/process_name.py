"""What `ps` and `top` call a worker process, by its job."""

from __future__ import annotations

import ctypes
from typing import Final

ENGINE: Final = "appl-engine"
HARDWARE: Final = "appl-hardware"
QUANTIZER: Final = "appl-quantizer"
SPARE: Final = "appl-spare"

_PR_SET_NAME: Final = 15


def name_process(name: str) -> None:
    """Of at most 15 characters. On the main thread."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
