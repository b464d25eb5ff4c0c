"""appliance.security.fence"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.security.fence import FRESH_SECONDS, Fence, FenceWatch, parse_fences, read_fences, stopped_by

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


@pytest.mark.parametrize(
    ("network", "units"),
    [
        ("192.0.2.0/24", []),
        ("192.0.2.7", []),
        ("192.0.2.0/23", ["appliance.service", "appliance.socket"]),
        ("198.51.100.0/24", ["appliance.service", "appliance.socket"]),
        ("2001:db8:1::/48", ["appliance.service"]),
        ("127.0.0.0/8", []),
    ],
)
def test_which_fences_stop_a_network(network: str, units: list[str]) -> None:
    stopped = stopped_by(parse_fences(SHOWN), [network])
    assert [(one.unit, one.networks) for one in stopped] == [(unit, (network,)) for unit in units]


def test_what_no_fence_denies_is_not_stopped() -> None:
    shown = "Id=appliance.socket\nIPAddressAllow=10.1.0.0/16\nIPAddressDeny=10.0.0.0/8\n"
    fences = list(parse_fences(shown))
    assert stopped_by(fences, ["192.0.2.0/24", "10.1.2.0/24", "::/0"]) == []
    (one,) = stopped_by(fences, ["10.2.0.0/16", "10.1.0.0/16", "0.0.0.0/0"])
    assert one.networks == ("10.2.0.0/16", "0.0.0.0/0")


def test_many_networks_are_not_all_listed() -> None:
    (one, _) = stopped_by(parse_fences(SHOWN), [f"198.51.100.{number}" for number in range(9)])
    assert len(one.networks) == 9
    assert one.sentence.count("198.51.100.") == 5
    assert "and 4 more" in one.sentence


def test_a_host_that_does_not_tell_has_no_fences(tmp_path: Path) -> None:
    assert read_fences(("/nonexistent/systemctl",)) == ()
    for shown in ("", "Id=appliance.socket\\nIPAddressDeny=any\\n", "garbage"):
        assert read_fences(("printf", shown)) == ()
    path = tmp_path / "shown"
    path.write_text(SHOWN)
    assert [fence.unit for fence in read_fences(("cat", str(path)))] == ["appliance.service", "appliance.socket"]


async def test_systemd_is_asked_now_and_then() -> None:
    asked: list[float] = []
    now = 100.0
    (fence, _) = parse_fences(SHOWN)

    def read() -> tuple[Fence, ...]:
        asked.append(now)
        return (fence,)

    watch = FenceWatch(read, clock=lambda: now)
    for moment in (100.0, 100.0 + FRESH_SECONDS, 100.1 + FRESH_SECONDS):
        now = moment
        assert await watch.fences() == (fence,)
    assert asked == [100.0, 100.1 + FRESH_SECONDS]


async def test_an_appliance_with_a_state_directory_of_its_own_is_not_that_of_the_units(tmp_path: Path) -> None:
    assert await FenceWatch.of(tmp_path).fences() == ()
