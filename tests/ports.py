"""Ports for daemons that have to be told theirs beforehand."""

from __future__ import annotations

import contextlib
import random
import socket

# Outside the kernel's own choice, which would give one away between our look and its use.
_PORTS = range(20_000, 30_000)
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody uses now, that was not given before, and that nobody gets who does not ask for its number."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            _given.add(port)
            return port
