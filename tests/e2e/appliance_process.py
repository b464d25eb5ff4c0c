"""The real daemon as a subprocess, and how a client reaches it."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from appliance.security.tls import client_context
from appliance.telemetry.request_reader import RequestReader
from appliance.telemetry.request_record import RequestRecord
from appliance.worker.process_name import ENGINE

START_SECONDS_MAX = 60.0
# The daemon commits every quarter of a second; a disk that others keep busy may take longer.
RECORD_SECONDS_MAX = 60.0
# A drain of 30 s, and what follows it.
STOP_SECONDS_MAX = 90.0


@dataclass
class Appliance:
    """A running `appliance serve`; `log` and `output` are what it has written so far."""

    process: subprocess.Popen[bytes]
    folder: Path
    killed: bool = False

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def url(self) -> str:
        return (self.state / "run" / "api.url").read_text()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def bundle(self, client: str = "demo") -> Path:
        return self.state / "clients" / client

    def key(self, client: str = "demo") -> str:
        return (self.bundle(client) / "api.key").read_text().strip()

    def context(self, client: str = "demo") -> ssl.SSLContext:
        return client_context(self.bundle(client))

    def session(self, client: str = "demo") -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.key(client)}"},
            connector=aiohttp.TCPConnector(ssl=self.context(client), limit=0),
        )

    def requests(self) -> RequestReader:
        """What is on disk so far: a request is there a moment after its answer."""
        return RequestReader.of_folder(self.state / "store")

    def record_of(self, request_id: str) -> RequestRecord:
        """The request's record, once it is on disk. Blocks: a test with an event loop calls it in a thread."""
        deadline = time.monotonic() + RECORD_SECONDS_MAX
        while (record := self.requests().find([request_id])) is None:
            assert time.monotonic() < deadline, f"no record of {request_id}:\n{self.log}"
            time.sleep(0.02)
        return record

    def workers(self) -> list[psutil.Process]:
        """Those that serve a model."""
        return [child for child in psutil.Process(self.process.pid).children() if _serves(child)]

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def wait_for(self, text: str, seconds: float = START_SECONDS_MAX) -> None:
        """Waits until `text` stands in the log or the output."""
        deadline = time.monotonic() + seconds
        while text not in self.log + self.output:
            assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"{text!r} did not come:\n{self.log}"
            time.sleep(0.02)


def _serves(child: psutil.Process) -> bool:
    """Not one that has ended since it was listed."""
    try:
        return "appliance.worker" in " ".join(child.cmdline()) and child.name() == ENGINE
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def run_command(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """One `appliance` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "appliance", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        check=False,
    )


@contextmanager
def running_appliance(
    folder: Path, *arguments: str | Path, config: str = "", program: str = "appliance"
) -> Iterator[Appliance]:
    """`appliance serve` on a free port with its state in `folder`; stopped by SIGTERM and checked to end with 0.

    program: the module to run. One that the block itself has killed with `kill` is not checked.
    """
    folder.mkdir(exist_ok=True)
    (folder / "appliance.yaml").write_text(config)
    with (folder / "log").open("wb") as log, (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", program, "serve", "--port", "0", "--state-dir", str(folder / "state")),
                *("--config", str(folder / "appliance.yaml"), *map(str, arguments)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
        )
    appliance = Appliance(process, folder)
    try:
        appliance.wait_for("Ctrl-C stops it.")
        yield appliance
        if not appliance.killed:
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS_MAX) == 0, appliance.log
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
