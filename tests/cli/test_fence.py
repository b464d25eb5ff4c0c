"""What a unit's IPAddressAllow= does not let through is said by the commands that let a network in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.cli import fence
from appliance.cli.fence import faults, parse_fences
from appliance.state_dir import StateDir
from tests.cli.conftest import Command

# As systemd 252 shows them; whoever has no fence has empty lists.
SHOWN = """\
Id=appliance.service
IPAddressAllow=127.0.0.0/8 ::1/128 192.0.2.0/25 192.0.2.128/25
IPAddressDeny=0.0.0.0/0 ::/0

Id=appliance.socket
IPAddressAllow=127.0.0.0/8 ::1/128 192.0.2.0/24 2001:db8::/32
IPAddressDeny=0.0.0.0/0 ::/0

Id=appliance-admin.socket
IPAddressAllow=
IPAddressDeny=
"""


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
    monkeypatch.setattr(fence, "DEFAULT_STATE", state.path)
    return shown


@pytest.mark.parametrize(
    ("network", "stopped_by"),
    [
        ("192.0.2.0/24", []),
        ("192.0.2.7", []),
        ("192.0.2.0/23", ["appliance.service", "appliance.socket"]),
        ("198.51.100.0/24", ["appliance.service", "appliance.socket"]),
        ("2001:db8:1::/48", ["appliance.service"]),
        ("127.0.0.0/8", []),
    ],
)
def test_which_fences_stop_a_network(network: str, stopped_by: list[str]) -> None:
    said = faults([network], parse_fences(SHOWN))
    assert [next(word for word in one.split() if word.startswith("appliance.")) for one in said] == stopped_by


def test_what_no_fence_denies_is_not_stopped() -> None:
    shown = "Id=appliance.socket\nIPAddressAllow=10.1.0.0/16\nIPAddressDeny=10.0.0.0/8\n"
    fences = list(parse_fences(shown))
    assert faults(["192.0.2.0/24", "10.1.2.0/24", "::/0"], fences) == []
    assert len(faults(["10.2.0.0/16", "0.0.0.0/0"], fences)) == 1


def test_many_networks_are_not_all_listed() -> None:
    (said, _) = faults([f"198.51.100.{number}" for number in range(9)], parse_fences(SHOWN))
    assert said.count("198.51.100.") == 5
    assert "and 4 more" in said


def test_commands_that_let_a_network_in_warn(cli: Command, systemctl: Path) -> None:
    assert cli("allow", "add", "192.0.2.0/24").ok().err == ""
    warned = cli("allow", "add", "198.51.100.0/24").ok().err
    assert warned.startswith("warning: IPAddressAllow= of appliance.service does not let 198.51.100.0/24 through; ")
    assert "/etc/systemd/system/UNIT.d/site.conf" in warned
    assert "`systemctl restart appliance.socket`" in warned
    assert "198.51.100.0/24" in cli("allow", "apply").ok().err
    assert "198.51.100.7" in cli("allow", "test", "198.51.100.7").ok().err
    assert cli("allow", "test", "192.0.2.7").ok().err == ""
    # Whoever is not let in by the allowlist is not let in anyhow.
    assert cli("allow", "test", "203.0.113.1").ok().err == ""
    assert cli("allow", "revert").ok().err == ""


@pytest.mark.parametrize("shown", ["", "Id=appliance.socket\nIPAddressDeny=any\n", "garbage"])
def test_a_host_that_does_not_tell_is_not_warned_of(cli: Command, systemctl: Path, shown: str) -> None:
    systemctl.write_text(shown)
    assert cli("allow", "add", "198.51.100.0/24").ok().err == ""


def test_an_appliance_with_a_state_directory_of_its_own_is_not_that_of_the_units(
    cli: Command, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "DEFAULT_STATE", Path("/var/lib/appliance"))
    assert cli("allow", "add", "198.51.100.0/24").ok().err == ""
