from __future__ import annotations

import pytest

from appliance.models.backoff import backoff_seconds


def test_it_doubles_up_to_the_longest() -> None:
    assert [backoff_seconds(failures, 10.0) for failures in range(6)] == [0.0, 1.0, 2.0, 4.0, 8.0, 10.0]


@pytest.mark.parametrize("failures", [1_024, 1_025, 10**9])
def test_a_server_that_is_down_for_months_is_no_overflow(failures: int) -> None:
    assert backoff_seconds(failures, 300.0) == 300.0
