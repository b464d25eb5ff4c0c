"""appliance.placement.rules; that the loader follows them is seen in tests/engine."""

from __future__ import annotations

import pytest

from appliance.placement.rules import flash_attention, kv_mode, pass_tokens, scored_tokens, slots, stream_cells
from tests.unit.placement.making import spec


@pytest.mark.parametrize(
    ("n_ctx", "trained", "whole", "mode"),
    [
        (32_768, 131_072, False, "split"),
        (16_384, 131_072, False, "unified"),
        (16_384, 4096, False, "split"),
        (32_768, 0, False, "split"),
        (32_768, 131_072, True, "unified"),
    ],
)
def test_auto_splits_where_a_share_is_long_enough(n_ctx: int, trained: int, whole: bool, mode: str) -> None:
    assert kv_mode(spec(n_ctx=n_ctx), trained, whole) == mode
    assert kv_mode(spec(n_ctx=n_ctx, kv="split"), trained, whole) == "split"


def test_cells_come_in_steps() -> None:
    assert stream_cells(spec(n_ctx=1000), "unified") == 1024
    assert stream_cells(spec(n_ctx=1000, parallel=3), "split") == 512


def test_slots_of_a_unified_cache() -> None:
    assert slots(spec(), "split") == 4
    assert slots(spec(), "unified") == 8
    assert slots(spec(n_ctx=64), "unified") == 4
    assert slots(spec(n_ctx=65_536, parallel=200), "unified") == 256


def test_a_pass_is_no_longer_than_a_batch_or_the_context() -> None:
    assert pass_tokens(spec()) == 512
    assert pass_tokens(spec(n_batch=64)) == 64
    assert pass_tokens(spec(n_ctx=200)) == 256


def test_flash_attention_is_on_unless_it_is_off() -> None:
    assert [flash_attention(spec(flash_attn=value)) for value in ("auto", "on", True, "off", False)] == [True] * 3 + [
        False
    ] * 2


def test_few_tokens_of_a_prompt_have_logits_at_once() -> None:
    assert scored_tokens(spec(), 151_936) == 55
    assert scored_tokens(spec(), 1000) == pass_tokens(spec()) == 512
    assert scored_tokens(spec(), 4_000_000) == 8
