"""A worker whose engine gets stuck in C with the GIL held: on its third step, or loading the model `wedge-load`."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable

from appliance.engine.plan import Plan
from appliance.engine.runner import Runner, load
from appliance.types import ModelSpec
from appliance.worker.__main__ import prepare_process
from appliance.worker.serve import serve


def hang() -> None:
    """Sleeps without letting any other Python code run."""
    ctypes.PyDLL(None).sleep(600)


class WedgedRunner(Runner):
    """Works for two steps."""

    steps = 0

    def launch(self, plan: Plan) -> None:
        self.steps += 1
        if self.steps == 3:
            hang()
        super().launch(plan)


def load_wedged(spec: ModelSpec, progress: Callable[[float], None]) -> Runner:
    if spec.id == "wedge-load":
        hang()
    runner = load(spec, progress)
    runner.__class__ = WedgedRunner
    return runner


if __name__ == "__main__":
    prepare_process()
    serve(socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])), load_wedged)
    os.abort()
