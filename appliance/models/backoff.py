"""How long to wait before trying again what keeps failing."""

from __future__ import annotations

from typing import Final

# 2.0 ** 1024 is no float any more, and whatever fails all weekend gets there.
_DOUBLINGS_MAX: Final = 64


def backoff_seconds(failures: int, most: float) -> float:
    """Seconds after so many failures in a row: 0 after none, then 1, 2, 4 and so on, never over `most`. Pure."""
    return 0.0 if failures <= 0 else min(2.0 ** min(failures - 1, _DOUBLINGS_MAX), most)
