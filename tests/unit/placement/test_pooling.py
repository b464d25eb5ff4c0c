"""The context of a model that pools."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from appliance.placement.estimate import estimate
from appliance.placement.layout import Layout
from appliance.placement.pooling import PoolingLayout, pooling_layout
from tests.unit.placement.making import MIB, facts, spec


@pytest.mark.parametrize(
    ("n_ctx", "encoder", "causal", "pooling", "wanted"),
    [
        (512, True, False, "mean", PoolingLayout(512, 512, 512, 512, 0)),
        (8192, True, False, "cls", PoolingLayout(2048, 512, 2048, 2048, 0)),
        (128, True, False, "cls", PoolingLayout(128, 512, 512, 512, 0)),
        (8192, False, True, "last", PoolingLayout(2048, 512, 2048, 512, 2048)),
        (8192, False, True, "mean", PoolingLayout(2048, 512, 2048, 2048, 2048)),
        (8192, False, False, "last", PoolingLayout(2048, 512, 2048, 2048, 2048)),
    ],
)
def test_a_text_is_one_pass_unless_it_may_come_in_pieces(
    n_ctx: int, encoder: bool, causal: bool, pooling: str, wanted: PoolingLayout
) -> None:
    found = pooling_layout(
        spec(n_ctx=n_ctx),
        pooling,  # type: ignore[arg-type]
        n_ctx_train=2048,
        encoder=encoder,
        causal=causal,
    )
    assert found == wanted


def test_an_encoder_has_no_cache_and_room_for_logits_that_nobody_wants() -> None:
    bert = facts(architecture="bert", kind="embedding", pooling="mean", causal=False, context_length=512)
    need = estimate(bert, spec(n_ctx=8192))
    assert need.cache == 0 == need.preempted
    assert need.output_buffer + need.later == 512 * (32_000 + 1024) * 4
    assert estimate(bert, spec(embedding_cache_mib=64)).later == need.later + 64 * MIB


def test_pooling_in_models_yaml_takes_the_room_of_an_embedding_model() -> None:
    need = estimate(facts(), spec(pooling="last", n_ctx=512))
    assert need.output_buffer + need.later == 512 * (32_000 + 1024) * 4
    assert need.preempted == 0 < need.cache
    without = replace(need, later=0)
    assert Layout(need).footprint(()).host == Layout(without).footprint(()).host + need.later
