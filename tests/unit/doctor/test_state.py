"""Verdicts on the state directory, ports and configuration, and what they are made of."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance.access_config import Listener
from appliance.config import Config
from appliance.doctor.state import Entry, configuration_verdict, port_verdict, state_verdict, trouble_verdicts
from appliance.doctor.state_probe import read_ports, read_state
from appliance.state_dir import StateDir


def entry(path: str = "/s/secrets/x", kind: str = "file", owner: int = 7, mode: int = 0o600) -> Entry:
    return Entry(path=path, kind=kind, owner=owner, mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (entry(kind="link"), "move it away"),
        (entry(owner=0), "chown -h 7 /s/secrets/x"),
        (entry(mode=0o640), "chmod go= /s/secrets/x"),
        (entry(path="/s/a b", mode=0o755, kind="folder"), "chmod go= '/s/a b'"),
    ],
)
def test_what_is_not_ours_alone(wrong: Entry, says: str) -> None:
    verdict = state_verdict([entry(), wrong], 7, False)
    assert verdict.level == "error" and says in (verdict.next_step or "")
    assert state_verdict([entry()], 7, True).level == "ok"


def test_a_real_state_directory(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    (state.secrets / "key").touch(mode=0o600)
    (state.models / "m").mkdir()
    (state.models / "m" / "file").touch(mode=0o644)
    entries, cut = read_state(state)
    assert state_verdict(entries, os.geteuid(), cut).level == "ok"
    assert not any(one.path.endswith("m/file") for one in entries)
    (state.secrets / "key").chmod(0o644)
    assert state_verdict(*_args(state)).level == "error"
    (state.secrets / "key").unlink()
    (state.secrets / "key").symlink_to("/etc/passwd")
    assert "no file or folder" in state_verdict(*_args(state)).found
    assert read_state(StateDir(tmp_path / "none")) == ((), False)


def test_workers_of_another_user_may_get_to_the_models_and_no_further(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    state.path.chmod(0o710)
    state.models.chmod(0o2750)
    assert state_verdict(*_args(state)).level == "ok"
    for path, mode in ((state.models, 0o2770), (state.models, 0o2751), (state.path, 0o750), (state.secrets, 0o710)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert str(path) in state_verdict(*_args(state)).found
        path.chmod(before)


def _args(state: StateDir) -> tuple[tuple[Entry, ...], int, bool]:
    entries, cut = read_state(state)
    return entries, os.geteuid(), cut


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = {"a": Listener(port=port), "b": Listener(port=0), "c": Listener(port=1)}
        config = Config(listeners=listeners)
        ports = read_ports(config, lambda name: 8443 if name == "c" else None)
    assert [port_verdict(one).level for one in ports] == ["error", "ok", "ok"]
    assert f"sport = :{port}" in (port_verdict(ports[0]).next_step or "")
    assert "is served" in port_verdict(ports[2]).found


def test_what_the_daemon_says_of_itself() -> None:
    assert [one.level for one in trouble_verdicts(["a"], ["b"])] == ["error", "warning"]
    assert [one.level for one in trouble_verdicts([], [])] == ["ok"]
    assert configuration_verdict("x", "x:3: wrong").level == "error"
    assert configuration_verdict("x", None).level == "ok"
