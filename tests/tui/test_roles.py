"""What somebody with few rights sees."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.driving import driven
from tui.demo.source import FROZEN_MOMENT, DemoSource
from tui.source import ActRefused, Identity, SourceLost


class Narrow(DemoSource):
    """Of somebody with few rights, whose certificate ends soon. silent: it answers no question."""

    def __init__(self, *, days: float = 3.0, silent: bool = False) -> None:
        super().__init__(1, "calm", now=lambda: FROZEN_MOMENT, frozen=True, history_seconds=5)
        self._days = days
        self._silent = silent

    async def identity(self) -> Identity:
        return Identity(name="vera", roles=("viewer",), via="mtls", until=FROZEN_MOMENT + self._days * 86_400)

    async def ask(self, path: str, **query: str | int | None) -> Any:
        if self._silent:
            raise SourceLost("connection refused")
        raise ActRefused("forbidden", f"{path} needs the role security; vera has viewer. " + "Roles come from it. " * 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("days", "said"), [(3.0, "LIVE 0.0s  cert 3d  vera"), (-1.0, "LIVE 0.0s  cert over  vera"), (90.0, "")]
)
async def test_ones_own_certificate_is_spoken_of_before_it_ends(days: float, said: str) -> None:
    async with driven(Narrow(days=days)) as made:
        title = made.lines()[0]
        assert said in title
        assert (" cert " in title) is bool(said)


async def test_a_list_that_a_role_is_not_shown_does_not_pass_for_an_empty_one() -> None:
    async with driven(Narrow()) as made:
        for key, path in (("4", "/keys"), ("5", "/allowlist"), ("6", "/audit/records")):
            await made.press(key)
            shown = " ".join(made.text().split())
            assert f"Your role is not shown these: {path} needs the role security" in shown
            # In full, however narrow the screen is.
            assert shown.count("Roles come from it.") >= 5
            assert "only this host" not in shown


@pytest.mark.slow
async def test_a_list_that_nobody_has_answered_is_not_called_empty() -> None:
    async with driven(Narrow(silent=True)) as made:
        await made.press("5")
        assert "asking the appliance" in made.text()
        assert "only this host" not in made.text()
