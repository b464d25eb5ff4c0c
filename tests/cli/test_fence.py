"""What a unit's IPAddressAllow= does not let through is said by the commands that let a network in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.security import fence
from appliance.state_dir import StateDir
from tests.cli.conftest import Command
from tests.unit.security.test_fence import SHOWN


@pytest.fixture
def systemctl(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that shows what is in the file that is returned; and the state directory is that of this host's service."""
    shown = tmp_path / "shown"
    shown.write_text(SHOWN)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "systemctl").write_text(f'#!/bin/sh\n[ "$1" = show ] && exec cat {shown}\n')
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(fence, "UNIT_STATE", state.path)
    return shown


def test_commands_that_let_a_network_in_warn(cli: Command, systemctl: Path) -> None:
    assert cli("allow", "add", "192.0.2.0/24").ok().err == ""
    warned = cli("allow", "add", "198.51.100.0/24").ok().err
    assert warned.startswith("warning: IPAddressAllow= of appliance.service does not let 198.51.100.0/24 through; ")
    assert "/etc/systemd/system/UNIT.d/site.conf" in warned
    assert "`systemctl restart appliance.socket`" in warned
    assert "198.51.100.0/24" in cli("allow", "apply").ok().err
    assert "198.51.100.7" in cli("allow", "test", "198.51.100.7").ok().err
    assert cli("allow", "test", "192.0.2.7").ok().err == ""
    assert "198.51.100.0/24" in cli("allow", "extend", "198.51.100.0/24", "--for", "7d").ok().err
    # Whoever is not let in by the allowlist is not let in anyhow.
    assert cli("allow", "test", "203.0.113.1").ok().err == ""
    assert cli("allow", "revert").ok().err == ""


@pytest.mark.parametrize("shown", ["", "Id=appliance.socket\nIPAddressDeny=any\n", "garbage"])
def test_a_host_that_does_not_tell_is_not_warned_of(cli: Command, systemctl: Path, shown: str) -> None:
    systemctl.write_text(shown)
    assert cli("allow", "add", "198.51.100.0/24").ok().err == ""


def test_the_doctor_says_so_too(cli: Command, systemctl: Path) -> None:
    cli("allow", "add", "198.51.100.0/24", "--for", "2h").ok()
    cli("allow", "apply", "--confirm", "0").ok()
    said = {one["found"]: one for one in cli("doctor", "--json").json["verdicts"] if one["check"] == "allowlist"}
    fenced = [found for found in said if found.startswith("IPAddressAllow= of")]
    assert [found.split()[2] for found in fenced] == ["appliance.service", "appliance.socket"]
    assert all("198.51.100.0/24" in found and said[found]["level"] == "warning" for found in fenced)
    (ending,) = said.keys() - set(fenced)
    assert ending.startswith("the allowlist entry 198.51.100.0/24 ends on ")


def test_an_appliance_with_a_state_directory_of_its_own_is_not_that_of_the_units(
    cli: Command, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "UNIT_STATE", Path("/var/lib/appliance"))
    assert cli("allow", "add", "198.51.100.0/24").ok().err == ""
