"""`appliance doctor`: without a daemon, on real state directories, well and broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.state_dir import StateDir
from tests.cli.conftest import Command

CHECKS = {"gpu", "cpu", "clock", "time_zone", "descriptors", "disk", "state_directory"}


def levels(found: Any, check: str) -> list[str]:
    return [one["level"] for one in found["verdicts"] if one["check"] == check]


def test_an_appliance_that_does_not_run(cli: Command, tmp_path: Path) -> None:
    config = tmp_path / "appliance.yaml"
    config.write_text("listeners: {api: {port: 0}}\n")
    (tmp_path / "models.yaml").write_text("models: [{id: a, path: none.gguf}]\n")
    said = cli("doctor", "--json", "--config", config)
    found = said.json
    assert said.code == 1 and found["worst"] == "error"
    assert {one["check"] for one in found["verdicts"]} == CHECKS | {
        *("configuration", "listeners", "allowlist", "certificates", "models")
    }
    assert levels(found, "state_directory") == ["ok"]
    assert levels(found, "configuration") == ["ok", "ok"]
    assert levels(found, "certificates") == ["ok", "ok", "ok"]
    # The model's file is not there.
    assert levels(found, "models") == ["error"]
    (trouble,) = (one for one in found["verdicts"] if one["check"] == "models")
    assert "none.gguf" in trouble["found"] and trouble["next_step"]


def test_what_is_broken_is_said_and_the_rest_is_looked_at(cli: Command, state: StateDir, tmp_path: Path) -> None:
    (state.secrets / "credentials").chmod(0o644)
    said = cli("doctor")
    assert said.code == 1
    assert "!! error" in said.out and "chmod go= " in said.out and "mode 0644" in said.out


def test_a_broken_configuration(cli: Command, tmp_path: Path) -> None:
    config = tmp_path / "appliance.yaml"
    config.write_text("listenres: {}\n")
    found = cli("doctor", "--json", "--config", config).json
    assert levels(found, "configuration") == ["error"]
    assert {one["check"] for one in found["verdicts"]} >= CHECKS


def test_nothing_is_here(command: Command, tmp_path: Path) -> None:
    said = command("doctor", "--state-dir", tmp_path / "none")
    assert said.code == 1 and "does not exist" in said.out


@pytest.mark.slow
def test_full_has_the_engine_compute_a_token(cli: Command, tmp_path: Path) -> None:
    config = tmp_path / "appliance.yaml"
    config.write_text("listeners: {api: {port: 0}}\n")
    found = cli("doctor", "--full", "--json", "--config", config).json
    assert levels(found, "engine") == ["ok"]


def test_an_appliance_elsewhere_is_not_judged_by_this_host(
    command: Command, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_ADMIN_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("APPLIANCE_ADMIN_BUNDLE", str(state.clients / "none"))
    said = command("doctor", "--state-dir", state.path)
    assert (said.code, said.out) == (1, "") and "APPLIANCE_ADMIN_BUNDLE" in said.err
