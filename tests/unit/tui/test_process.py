"""The process that the dashboard runs in."""

from __future__ import annotations

import subprocess

import pytest

from appliance.admin_endpoint import AdminEndpoint
from tui.demo.source import FROZEN_MOMENT
from tui.process import Demo, Task, command
from tui.start import Wanted

# All that a dashboard imports, and whether OpenSSL came with it.
_LOAD = "import tui.app, tui.live.source, tui.demo.source; print('_ssl' in sys.modules)"


@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tls_is_there_only_where_it_is_spoken(tls: bool) -> None:
    done = subprocess.run(command(_LOAD, tls=tls), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str(tls)


def test_a_demo_stands_still_where_it_is_to_look_the_same_each_time() -> None:
    still = Task(wanted=Wanted(), demo=Demo(seed=1, scenario="calm", still=True))
    assert still.moment() == FROZEN_MOMENT
    assert Task(wanted=Wanted(), demo=Demo(seed=1, scenario="calm")).moment() is None
    assert Task(wanted=Wanted(), endpoint=AdminEndpoint(socket="/nowhere")).moment() is None
