"""tui.drawing.key_use"""

from __future__ import annotations

from datetime import UTC

import pytest

from tui.admin_data import ApiKeyRow, KeyLimits, KeyUsage
from tui.drawing.key_use import key_lines, scope, short_limit, short_use, use_role
from tui.glyphs import ASCII
from tui.lines import cells, texts
from tui.look import Look

LOOK = Look(ASCII, UTC)


def key(day: tuple[int, int, int] | None = None, **fields: object) -> ApiKeyRow:
    used = None
    if day is not None:
        requests, refused, failed = day
        used = KeyUsage(
            requests=requests, refused=refused, failed=failed, prompt_tokens=1_900_000, completion_tokens=2100
        )
    return ApiKeyRow(kid="k_1", principal="li", state="active", last_day=used, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (KeyLimits(), "-"),
        (KeyLimits(requests_per_minute=60, tokens_per_day=5), "60/min"),
        (KeyLimits(tokens_per_minute=2100), "2.1k/min"),
        (KeyLimits(tokens_per_day=1_900_000), "1.9M/day"),
        (KeyLimits(concurrent_max=4), "4 at once"),
    ],
)
def test_the_limit_that_is_felt_first(limits: KeyLimits, said: str) -> None:
    assert short_limit(key(limits=limits), LOOK) == said


@pytest.mark.parametrize(
    ("day", "said", "role"),
    [
        (None, "-", ""),
        ((0, 0, 0), "0", ""),
        ((41_203, 38, 3), "41.2k", ""),
        ((100, 4, 1), "100 !", "warn"),
        ((240, 240, 0), "240 !", "warn"),
    ],
)
def test_what_was_not_answered_is_marked_where_it_is_much(
    day: tuple[int, int, int] | None, said: str, role: str
) -> None:
    assert (short_use(key(day)), use_role(key(day))) == (said, role)


def test_what_it_may_use() -> None:
    assert scope(key(), LOOK) == "all"
    assert scope(key(models=("a", "b")), LOOK) == "a,b"
    assert scope(key(models=("a",), role="viewer"), LOOK) == "list only"


def test_the_lines_below_say_all_and_fit() -> None:
    limits = KeyLimits(requests_per_minute=60, tokens_per_day=1_900_000, concurrent_max=4)
    shown = texts(key_lines(key((9, 2, 1), limits=limits, label="old", models=("m" * 90,)), 80, LOOK))
    assert all(cells(one) <= 80 for one in shown)
    assert "24 h: 9 requests, 2 refused, 1 failed; tokens 1.9M in, 2.1k out   label old" in shown[2]
    wide = texts(key_lines(key(limits=limits), 160, LOOK))
    assert "models all   limits 60 requests/min, 1.9M tokens/day, 4 at once" in wide[1]
    assert "cannot be read" in wide[2]
    assert key_lines(None, 80, LOOK) == []
