from __future__ import annotations

import os
from pathlib import Path

import pytest

from installer.services import Systemd, wait_until_well

HOLDER = "run/systemd/system/appliance.service.d/zz-appliance-setup.conf"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_it_waits_until_all_is_well() -> None:
    clock = Clock()
    ill = lambda: None if clock.now >= 3 else "starting"  # noqa: E731
    assert wait_until_well(ill, lambda: False, 10, clock, clock.sleep) is None
    assert clock.now == 3


def test_it_gives_up_with_the_last_reason() -> None:
    clock = Clock()
    assert wait_until_well(lambda: f"{clock.now:.0f}", lambda: False, 10, clock, clock.sleep) == "10"


def test_it_gives_up_early_where_nothing_will_come_of_it() -> None:
    clock = Clock()
    assert wait_until_well(lambda: "ill", lambda: clock.now >= 2, 100, clock, clock.sleep) == "ill"
    assert clock.now == 2


class Host:
    """One whose systemctl notes what it is asked, and whether another program stands in for the service by then."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.fails = root / "fails"
        (root / "bin").mkdir()
        script = (
            "#!/bin/sh\n"
            f'[ -e {root / HOLDER} ] && held="held: " || held=""\n'
            f'echo "$held$*" >> {root / "asked"}\n'
            f'! grep -qsxF "$*" {self.fails}\n'
        )
        (root / "bin/systemctl").write_text(script)
        (root / "bin/systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{root / 'bin'}:{os.environ['PATH']}")

    @property
    def asked(self) -> list[str]:
        return (self.root / "asked").read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_a_holder_is_there_before_the_service_stops_and_until_it_starts(host: Host) -> None:
    services = Systemd(host.root)
    services.hold()
    services.start()
    assert host.asked == [
        "held: daemon-reload",
        "held: stop appliance.service",
        "held: start appliance.service",
        "daemon-reload",
        "reset-failed appliance*",
        "--no-block restart appliance.service",
        "--no-block start appliance.target",
    ]


def test_where_nobody_can_hold_the_sockets_they_are_stopped(host: Host) -> None:
    services = Systemd(host.root)
    host.fails.write_text("start appliance.service\n")
    services.hold()
    services.start()
    assert not (host.root / HOLDER).exists()
    assert host.asked[-4:] == [
        "held: stop appliance.target appliance.service appliance.socket appliance-admin.socket appliance-engine.socket",
        "daemon-reload",
        "reset-failed appliance*",
        "--no-block start appliance.target",
    ]
