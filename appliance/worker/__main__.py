"""`python -m appliance.worker --fd N`: N is the connected stream socket to the daemon.

`--line N` under systemd: such sockets come over N, which systemd may keep for the next daemon.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import os
import signal
import socket
import sys
from typing import Final

from appliance.worker.line import Line

_PR_SET_PDEATHSIG: Final = 1
# How long one thread's Python may keep the other waiting: a template that computes must not slow every step down.
_SWITCH_SECONDS: Final = 0.0005


def main() -> None:
    """Prepares the process and serves until the connection closes."""
    parser = argparse.ArgumentParser(prog="appliance-worker")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--fd", type=int, help="connected stream socket to the daemon")
    given.add_argument("--line", type=int, help="the socket over which such sockets come")
    arguments = parser.parse_args()
    prepare_process()
    # Imported late: llama.cpp's libraries take their time, and signals must be set before.
    from appliance.worker.serve import serve

    if arguments.line is None:
        serve(socket.socket(fileno=arguments.fd))
    line = Line(socket.socket(fileno=arguments.line))
    if (connection := line.next()) is not None:
        serve(connection, line=line)


def prepare_process() -> None:
    """What every worker process needs before it touches a model."""
    # Ctrl-C and a service manager's stop reach the whole group; the daemon drains, then closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A belt for the braces: should the daemon die while this process is stuck, the kernel ends it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.enable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # GPUs have one order, llama.cpp's and the driver's: by their place in the machine.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # On a failed assertion llama.cpp would start a debugger to print its own stack.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")


if __name__ == "__main__":
    main()
