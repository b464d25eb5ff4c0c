"""The dashboard as a process of its own, with nothing in it that it does not need.

The command line becomes this process once it has read its options: what reads them takes 15 MB that nothing else here
would use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec import Struct

from appliance.admin_endpoint import AdminEndpoint
from appliance.errors import ApplianceError
from appliance.safe_text import safe_lines
from tui.demo.scenario import ScenarioName
from tui.source import Source
from tui.start import Wanted, open_dashboard


class Demo(Struct, frozen=True, kw_only=True):
    """Which made-up appliance. still: at one moment, so that it always looks the same."""

    seed: int
    scenario: ScenarioName
    still: bool = False


class Task(Struct, frozen=True, kw_only=True):
    """What is watched: a made-up appliance, or the one that answers there.

    certificate_ends: the operator's own, where there is one; UTC seconds since 1970.
    """

    wanted: Wanted
    demo: Demo | None = None
    endpoint: AdminEndpoint | None = None
    certificate_ends: float | None = None

    def source(self) -> Source:
        """Where its figures come from."""
        if self.demo is not None:
            from tui.demo.source import FROZEN_MOMENT, DemoSource

            if self.demo.still:
                return DemoSource(self.demo.seed, self.demo.scenario, now=lambda: FROZEN_MOMENT, frozen=True)
            return DemoSource(self.demo.seed, self.demo.scenario)
        assert self.endpoint is not None, "one of the two is watched"
        from tui.live.source import LiveSource

        found = self.endpoint
        socket = None if found.socket is None else Path(found.socket)
        return LiveSource(found.connect, found.where, socket, certificate_ends=self.certificate_ends)

    def moment(self) -> float | None:
        """At which its source stands still."""
        if self.demo is None or not self.demo.still:
            return None
        from tui.demo.source import FROZEN_MOMENT

        return FROZEN_MOMENT


def become(task: Task) -> NoReturn:
    """This process is the dashboard from now on."""
    tls = task.endpoint is not None and task.endpoint.url is not None
    sys.stdout.flush()
    sys.stderr.flush()
    words = command("from tui.process import main; main()", msgspec.json.encode(task).decode(), tls=tls)
    os.execv(sys.executable, words)


def command(code: str, *arguments: str, tls: bool) -> list[str]:
    """An interpreter that runs `code`, with as little in it as a dashboard can do with. tls: whether it speaks it.

    Without TLS, the libraries that would speak it find none: OpenSSL alone is 4 MB. Nor do tracebacks point at columns.
    """
    folder = str(Path(__file__).parents[1])
    without = "" if tls else "sys.modules['ssl'] = None; "
    # Not `-m`: that would look for it where the operator happens to be.
    prelude = f"import sys; {without}sys.path.append({folder!r}); "
    return [sys.executable, "-P", "-X", "no_debug_ranges", "-c", prelude + code, *arguments]


def main() -> None:
    """Of the process that `become` has made."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    try:
        open_dashboard(task.source(), task.wanted, task.moment())
    except ApplianceError as error:
        print(f"appliance: {safe_lines(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
