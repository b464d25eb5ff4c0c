"""How large the next piece of a prompt is."""

from __future__ import annotations

import pytest

from appliance.engine.prefill_pace import PrefillPace

LONG = 5000


def settle(pace: PrefillPace, prompts: int, token_seconds: float, decode_seconds: float) -> int:
    """The size at which the pieces of a long prompt settle."""
    for _ in range(50):
        pace.decoded(decode_seconds)
        tokens = pace.piece(LONG, prompts, beside_decoders=True)
        pace.prefilled(tokens, 0.005 + tokens * token_seconds)
    return pace.piece(LONG, prompts, beside_decoders=True)


def test_nothing_is_known_at_first() -> None:
    pace = PrefillPace(n_batch=2048, n_ubatch=512)
    assert pace.piece(LONG, 1, beside_decoders=False) == 512
    assert pace.piece(LONG, 1, beside_decoders=True) == 512


def test_a_long_prompt_beside_streams_takes_one_and_a_half_decoding_steps() -> None:
    tokens = settle(PrefillPace(2048, 512), prompts=1, token_seconds=0.001, decode_seconds=0.020)
    assert 0.005 + tokens * 0.001 == pytest.approx(1.5 * 0.020, rel=0.1)


def test_several_prompts_take_more() -> None:
    tokens = settle(PrefillPace(2048, 512), prompts=6, token_seconds=0.001, decode_seconds=0.020)
    assert 0.005 + tokens * 0.001 == pytest.approx(9 * 0.020, rel=0.1)


def test_a_piece_that_uses_the_device_well_may_take_four_decoding_steps() -> None:
    assert settle(PrefillPace(2048, 512), prompts=1, token_seconds=0.002, decode_seconds=0.080) == 128
    assert settle(PrefillPace(2048, 512), prompts=1, token_seconds=0.002, decode_seconds=0.060) < 64


def test_a_short_prompt_is_computed_at_once_where_that_is_soon_done() -> None:
    pace = PrefillPace(2048, 512)
    settle(pace, prompts=1, token_seconds=0.001, decode_seconds=0.020)
    assert pace.at_once(200) and pace.piece(200, 1, beside_decoders=True) == 200
    assert not pace.at_once(300)
    slow = PrefillPace(2048, 512)
    settle(slow, prompts=1, token_seconds=0.010, decode_seconds=0.200)
    assert not slow.at_once(200)


def test_one_slow_step_does_not_condemn_short_prompts_to_small_pieces() -> None:
    cold, disturbed = PrefillPace(2048, 512), PrefillPace(2048, 512)
    for pace in (cold, disturbed):
        pace.decoded(0.015)
    cold.prefilled(256, 4.0)
    disturbed.prefilled(256, 0.75)
    disturbed.prefilled(256, 4.0)
    for pace in (cold, disturbed):
        assert not pace.at_once(250)
        piece = pace.piece(250, 3, beside_decoders=True)
        assert piece < 64
        pace.prefilled(piece, piece * 0.005)
        assert pace.at_once(250)


def test_a_deep_prompt_is_paced_by_what_its_own_tokens_cost() -> None:
    pace = PrefillPace(2048, 512)
    pace.decoded(0.100)
    shallow, deep = pace.prefilled(256, 0.5), 0.024
    assert pace.at_once(250, shallow) and not pace.at_once(250, deep)
    assert pace.piece(LONG, 4, beside_decoders=True, own_seconds=deep) < pace.piece(LONG, 4, beside_decoders=True) / 2
    assert pace.prefilled(10, 0.96) == pytest.approx(deep), "a small piece's tokens are four times as dear"


def test_the_bounds_hold() -> None:
    slow, fast = PrefillPace(2048, 512), PrefillPace(2048, 512)
    assert settle(slow, 1, token_seconds=1.0, decode_seconds=0.001) == 4
    assert slow.piece(3, 1, beside_decoders=True) == 3
    assert settle(fast, 1, token_seconds=1e-6, decode_seconds=1.0) == 512
    fast.prefilled(512, 0.001)
    assert fast.piece(LONG, 1, beside_decoders=False) == 2048


def test_without_streams_a_step_takes_half_a_second_or_a_piece_worth_a_pass() -> None:
    slow, fast = PrefillPace(2048, 512), PrefillPace(2048, 512)
    for _ in range(20):
        slow.prefilled(512, 2.0)
        fast.prefilled(512, 0.25)
    assert slow.piece(LONG, 1, beside_decoders=False) == 128
    assert fast.piece(LONG, 1, beside_decoders=False) == 1024


def test_small_pieces_are_dear_and_say_nothing_of_large_ones() -> None:
    """As on a processor, which computes 64 tokens and more in tiles."""
    pace = PrefillPace(2048, 512)
    pace.decoded(0.020)
    pace.prefilled(512, 0.512)
    pace.prefilled(8, 0.040)
    pieces = []
    for _ in range(20):
        pieces.append(pace.piece(LONG, 1, beside_decoders=True))
        pace.prefilled(pieces[-1], pieces[-1] * (0.001 if pieces[-1] >= 64 else 0.005))
    # Between 8 and 512 tokens nothing was known: it is tried, once for each size.
    assert sum(piece > 6 for piece in pieces) <= 2
    assert pieces[-10:] == [6] * 10
    assert pace.piece(LONG, 8, beside_decoders=True) == 240
    assert pace.at_once(200)


def on_a_gpu(pace: PrefillPace, decode_seconds: float, left: int = 50 * LONG) -> list[int]:
    """The pieces of a long prompt where any piece takes 6 ms, and a token of it 70 µs (a 7B model on an H100)."""
    pieces = []
    for _ in range(30):
        pace.decoded(decode_seconds)
        pieces.append(pace.piece(left, 1, beside_decoders=True))
        pace.prefilled(pieces[-1], 0.006 + pieces[-1] * 70e-6)
    return pieces


@pytest.mark.parametrize("decode_seconds", [0.003, 0.004, 0.007])
def test_where_any_piece_takes_long_it_is_as_large_as_four_decoding_steps_allow(decode_seconds: float) -> None:
    pieces = on_a_gpu(PrefillPace(2048, 512), decode_seconds)[10:]
    assert all(0.006 + piece * 70e-6 <= 4.2 * decode_seconds for piece in pieces)
    # 1.5 steps would suffice for 0, 0 and 64 tokens.
    assert sum(pieces) / len(pieces) > min(120, 0.6 * (4 * decode_seconds - 0.006) / 70e-6)


def test_a_deep_prompt_is_not_taken_for_a_shallow_one() -> None:
    pace = PrefillPace(2048, 512)
    on_a_gpu(pace, 0.004)
    assert pace.piece(LONG, 1, beside_decoders=True, own_seconds=0.001) <= 16
