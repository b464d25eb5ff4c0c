"""Debian's nginx as a subprocess."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx on this machine; `apt-get install nginx-light`")
START_SECONDS_MAX = 60.0


@dataclass
class Nginx:
    """A running one. url: what its clients are given, without `/v1`."""

    url: str
    folder: Path

    @property
    def errors(self) -> str:
        """Its error log so far."""
        return (self.folder / "stderr").read_text()

    @property
    def accesses(self) -> str:
        """Its access log so far."""
        return (self.folder / "stdout").read_text()


def check(conf: Path) -> subprocess.CompletedProcess[str]:
    """`nginx -t`."""
    assert NGINX is not None
    return subprocess.run([NGINX, "-t", "-c", str(conf)], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def running_nginx(conf: Path, url: str, port: int) -> Iterator[Nginx]:
    """With `conf`, by which it listens on `port` and logs to its own output; that goes to files beside `conf`."""
    assert NGINX is not None
    nginx = Nginx(url, conf.parent)
    with (conf.parent / "stdout").open("wb") as out, (conf.parent / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [NGINX, "-c", str(conf), "-g", "daemon off;"], stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
    try:
        _wait_for(port, process, nginx)
        yield nginx
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(port: int, process: subprocess.Popen[bytes], nginx: Nginx) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        assert process.poll() is None, nginx.errors
        assert time.monotonic() < deadline, nginx.errors
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
