from __future__ import annotations

import pytest

from installer.choice import check_upgrade, needs_state_back
from installer.errors import Refused
from tests.unit.installer.made import manifest

NOW = manifest(version="2.0.0", sequence=5, state_format=2)


@pytest.mark.parametrize(
    ("then", "says"),
    [
        (NOW, "installed already"),
        (manifest(version="2.0.0", sequence=6), "another build"),
        (manifest(version="1.9.0", sequence=4, state_format=2), "--allow-downgrade"),
        (manifest(version="3.0.0", sequence=9, upgrade_from=6), "in between"),
    ],
)
def test_what_must_not_follow(then: object, says: str) -> None:
    with pytest.raises(Refused, match=says):
        check_upgrade(NOW, then, downgrade=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("downgrade", [True, False])
@pytest.mark.parametrize("state_format", [1, 3])
def test_an_older_one_is_not_started_on_a_state_that_it_does_not_read(state_format: int, downgrade: bool) -> None:
    with pytest.raises(Refused, match=r"rollback.*backup of its time"):
        check_upgrade(NOW, manifest(version="1.9.0", sequence=4, state_format=state_format), downgrade=downgrade)


def test_what_may_follow() -> None:
    check_upgrade(NOW, manifest(version="2.1.0", sequence=6, upgrade_from=5, state_format=3), downgrade=False)
    check_upgrade(NOW, manifest(version="1.9.0", sequence=4, state_format=2), downgrade=True)


def test_the_state_goes_back_where_its_format_has_changed() -> None:
    assert needs_state_back(NOW, manifest(state_format=3))
    assert not needs_state_back(NOW, manifest(state_format=2))
