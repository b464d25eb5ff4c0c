"""Code that does not end is ended, and what comes after it is left alone."""

from __future__ import annotations

import signal
import time

import pytest

from appliance.engine.prompt.deadline import GROWTH_BYTES_MAX, DeadlineError, deadline


def test_it_ends_a_loop() -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"more than 0\.1 s"), deadline(0.1):
        while True:
            pass
    assert time.monotonic() - began < 30


def test_code_that_swallows_it_is_interrupted_again() -> None:
    with pytest.raises(DeadlineError), deadline(0.05):
        try:
            while True:
                pass
        except DeadlineError:
            while True:
                pass


@pytest.mark.slow
def test_it_bounds_memory() -> None:
    kept = []
    with pytest.raises(DeadlineError, match="MiB"), deadline(30):
        for _ in range(2 * GROWTH_BYTES_MAX // 2**24):
            kept.append(b"x" * 2**24)
            time.sleep(0.001)


def test_nothing_is_left_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with deadline(30):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before
