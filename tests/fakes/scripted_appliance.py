"""`appliance`, but its models are scripted workers: a real daemon whose answers the prompts decide."""

from __future__ import annotations

import functools
import sys

from appliance import daemon
from appliance.cli import main
from appliance.models.launcher import SpawnLauncher

if __name__ == "__main__":
    worker = (sys.executable, "-m", "tests.fakes.scripted_worker")
    daemon.SpawnLauncher = functools.partial(SpawnLauncher, worker)  # type: ignore[assignment,attr-defined]
    main()
