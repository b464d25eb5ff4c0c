"""appliance.security.rate_headers"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.rate_headers import RateState, duration, rate_headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.0001, "1ms"),
        (0.25, "250ms"),
        (0.9995, "1s"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (172.8, "2m52.8s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (4320, "1h12m0s"),
        (86_400 * 2 + 0.5, "48h0m0.5s"),
    ],
)
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e7))
def test_a_duration_is_rounded_up_to_a_millisecond(seconds: float) -> None:
    text = duration(seconds)
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+(\.\d{0,2}[1-9])?s|\d+ms", text)
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    value = sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|[hms])", text))
    assert seconds - 1e-6 <= value <= seconds + 0.001 + 1e-6


def test_headers_say_what_is_limited_and_nothing_else() -> None:
    assert rate_headers(None, None) == {}
    assert rate_headers(RateState(60, 59, 1.0), RateState(150_000, 149_984, 360.0)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
