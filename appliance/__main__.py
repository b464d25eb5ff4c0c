"""`python -m appliance` is the `appliance` command."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Entry point. Ctrl-C during the second that the imports take ends it at once, for nothing is done yet."""
    # Who began us may have it ignored.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _leave)
    from appliance.cli import main as command

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    # No exception: some of what is imported would swallow it, or report it.
    os._exit(130)


if __name__ == "__main__":
    main()
