"""The unit files: scored as systemd scores them, and held to what their comments say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from appliance.access_config import DEFAULT_PORT, MAIN_LISTENER
from appliance.daemon import ADMIN_SOCKET
from installer.layout import Layout

FOLDER: Final = Path(__file__).resolve().parents[2] / "systemd"
FRONT: Final = "appliance.service"
WORKER: Final = "appliance-engine@.service"
SCORES_MAX: Final = {FRONT: 1.2, WORKER: 0.7}

scored = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings(unit: str) -> dict[str, list[str]]:
    """Every setting of a unit with all its values."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / "system" / unit).read_text().splitlines():
        if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def score(folder: Path, unit: str) -> float:
    command = ("systemd-analyze", "security", "--offline=true", f"./{unit}")
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", listed)
    assert found is not None, listed
    return float(found[1])


@scored
@pytest.mark.parametrize("unit", SCORES_MAX)
def test_a_unit_keeps_to_its_score(unit: str) -> None:
    assert score(FOLDER / "system", unit) <= SCORES_MAX[unit]


@scored
def test_the_score_notices_what_is_missing(tmp_path: Path) -> None:
    text = (FOLDER / "system" / FRONT).read_text()
    (tmp_path / FRONT).write_text(text.replace("NoNewPrivileges=yes\n", "").replace("ProtectHome=yes\n", ""))
    assert score(tmp_path, FRONT) > SCORES_MAX[FRONT]


@pytest.mark.parametrize("unit", SCORES_MAX)
def test_what_can_be_run_can_neither_be_written_nor_the_other_way_round(unit: str) -> None:
    found = settings(unit)
    (runs,), (read,), (noexec,) = found["ExecPaths"], found["BindReadOnlyPaths"], found["NoExecPaths"]
    assert runs == read
    written = {*found.get("BindPaths", []), *(f"/var/cache/{name}" for name in found.get("CacheDirectory", []))}
    assert written <= set(noexec.split())
    # systemd lets these win over the settings above.
    assert not {"ReadWritePaths", "ReadOnlyPaths", "StateDirectory"} & set(found)


def test_sockets_have_the_names_that_the_service_looks_for() -> None:
    api, admin = settings("appliance.socket"), settings("appliance-admin.socket")
    assert (api["FileDescriptorName"], api["ListenStream"]) == ([MAIN_LISTENER], [str(DEFAULT_PORT)])
    assert admin["FileDescriptorName"] == [ADMIN_SOCKET]
    assert settings(FRONT)["Sockets"] == ["appliance.socket appliance-admin.socket"]


def test_an_interrupted_upgrade_is_ended_when_all_that_it_touches_is_mounted() -> None:
    (mounted,) = settings("appliance-recover.service")["RequiresMountsFor"]
    host = Layout(Path("/"))
    for touched in (host.product, host.state, host.snapshots, *host.commands):
        assert any(touched.is_relative_to(place) for place in mounted.split()), touched


def test_the_fence_around_what_comes_in_is_the_one_around_what_goes_out() -> None:
    front, api = settings(FRONT), settings("appliance.socket")
    for name in ("IPAddressDeny", "IPAddressAllow"):
        assert front[name] == api[name]


@pytest.mark.parametrize("path", sorted((FOLDER / "relax").glob("*/*.conf")), ids=lambda path: path.stem)
def test_a_relaxation_is_of_a_unit_that_there_is_and_says_what_it_opens(path: Path) -> None:
    assert (FOLDER / "system" / path.parent.name.removesuffix(".d")).is_file()
    assert "Opens: " in " ".join(path.read_text().replace("#", " ").split())
    assert "[Service]" in path.read_text().splitlines()


@pytest.mark.parametrize("unit", sorted(path.name for path in (FOLDER / "system").iterdir()))
def test_every_unit_has_a_description(unit: str) -> None:
    assert settings(unit)["Description"][0].startswith("LLM appliance")
