"""`fork_server` for real workers: each is there with all imported, as a spare that waits for its first frame."""

from __future__ import annotations

import gc
import socket

# What a worker imports when its load comes, which takes most of the time of a small one.
import appliance.worker.model_server  # noqa: F401
from appliance.engine.runner import loading  # noqa: F401
from appliance.worker.__main__ import prepare_process
from appliance.worker.serve import serve
from tests.fakes.fork_server import serve_forks


def _work(connection: socket.socket, load: str) -> None:
    gc.enable()
    prepare_process()
    serve(connection)


if __name__ == "__main__":
    serve_forks(_work)
