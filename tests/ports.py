"""Ports for daemons that have to be told theirs beforehand."""

from __future__ import annotations

import contextlib
import random
import socket

# Outside the kernel's own choice, which would give one away between our look and its use.
_PORTS = range(20_000, 30_000)


def free_port() -> int:
    """A port that nobody uses now, and that nobody gets who does not ask for it by its number."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
