"""What must go."""

from __future__ import annotations

from appliance.access_config import Responses
from appliance.responses.files import Kept
from appliance.responses.retention import DAY_SECONDS, has_expired, plan
from tests.unit.responses.making import made_id

NOW = 100 * DAY_SECONDS
SETTINGS = Responses(retention_days=30, disk_bytes_max=2**20)


def kept(owner: str, made: int, size: int = 4096) -> Kept:
    return Kept(owner, made_id(made, made), made, size)


def test_whole_days() -> None:
    assert not has_expired(NOW - 30 * DAY_SECONDS + 1, NOW, SETTINGS)
    assert has_expired(NOW - 30 * DAY_SECONDS, NOW, SETTINGS)


def test_the_expired_go_and_no_others_while_there_is_room() -> None:
    old, new = kept("a", NOW - 40 * DAY_SECONDS), kept("a", NOW - 1)
    assert plan([new, old], NOW, SETTINGS) == [old]


def test_the_oldest_of_who_keeps_most_go() -> None:
    mine = [kept("a", NOW - 100 + number, 2**17) for number in range(6)]
    others = [kept("b", NOW - 1000, 2**17)]
    going = plan([*mine, *others], NOW, SETTINGS, need=2**18)
    assert going == mine[: len(going)]
    left = 7 * 2**17 - len(going) * 2**17
    assert left + 2**18 <= 2**20


def test_all_may_have_to_go() -> None:
    assert len(plan([kept("a", NOW - 1), kept("b", NOW - 1)], NOW, SETTINGS, need=2**30)) == 2
