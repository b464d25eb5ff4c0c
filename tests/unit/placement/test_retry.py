"""appliance.placement.retry"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.errors import MemoryLack
from appliance.placement.estimate import MIB
from appliance.placement.retry import N_UBATCH_MIN, RETRIES_MAX, Attempt, next_attempt
from appliance.types import ModelSpec

ASKED = ModelSpec(id="m", path="/m.gguf", n_ubatch=512)
ON_HOST = replace(ASKED, n_gpu_layers=0)
ON_GPU = replace(ASKED, n_gpu_layers=33)
FIRST = Attempt()


def test_on_the_host_a_pass_takes_fewer_tokens_down_to_a_floor() -> None:
    lack, attempt, seen = MemoryLack(part="compute", device="CPU"), FIRST, []
    while (following := next_attempt(ASKED, attempt.spec(ON_HOST), lack, attempt)) is not None:
        attempt = following
        seen.append((attempt.n_ubatch, attempt.words(attempt.spec(ON_HOST))))
    assert seen == [(256, "n_ubatch 256"), (128, "n_ubatch 128")]


def test_of_a_gpu_with_layers_by_our_choice_more_is_expected_each_time() -> None:
    lack = MemoryLack(part="weights", device="CUDA0", bytes=8192 * MIB)
    second = next_attempt(ASKED, ON_GPU, lack, FIRST)
    assert second is not None and (second.device_bytes, second.n_ubatch) == (2048 * MIB, None)
    third = next_attempt(ASKED, replace(ON_GPU, n_gpu_layers=20), lack, second)
    assert third is not None and third.device_bytes == 2048 * MIB + 4096 * MIB
    assert third.words(replace(ON_GPU, n_gpu_layers=9)) == "only 9 layers on GPUs"
    # All layers are on the host: the rest is a matter of the pass.
    last = next_attempt(ASKED, ON_HOST, MemoryLack(part="compute", device="CUDA0"), third)
    assert last is not None and last.words(replace(ON_HOST, n_ubatch=256)) == "only 0 layers on GPUs and n_ubatch 256"


@pytest.mark.parametrize(
    ("asked", "placed", "lack"),
    [
        (ASKED, ON_HOST, MemoryLack(part="weights", device="CPU", bytes=2**30)),
        (ASKED, ON_HOST, MemoryLack(part="cache", device="CPU", bytes=2**30)),
        (ASKED, ON_GPU, MemoryLack(part="weights", device="CUDA_Host")),
        (replace(ASKED, n_gpu_layers=33), ON_GPU, MemoryLack(part="weights", device="CUDA0")),
        (ASKED, replace(ON_HOST, n_ubatch=N_UBATCH_MIN), MemoryLack(part="compute")),
        (ASKED, ASKED, MemoryLack(part="weights", device="CUDA0")),
    ],
    ids=["weights", "cells", "pinned host memory", "layers that were asked for", "smallest pass", "no plan"],
)
def test_where_nothing_smaller_helps_nothing_is_tried(asked: ModelSpec, placed: ModelSpec, lack: MemoryLack) -> None:
    assert next_attempt(asked, placed, lack, FIRST) is None


LACKS = st.builds(
    MemoryLack,
    part=st.sampled_from(["weights", "cache", "compute"]),
    device=st.sampled_from(["", "CPU", "CUDA0", "CUDA_Host"]),
    bytes=st.integers(0, 2**40),
)


@given(st.lists(LACKS, min_size=12, max_size=12), st.sampled_from([None, 0, 33]), st.sampled_from([64, 128, 4096]))
def test_it_ends_and_promises_stay(lacks: list[MemoryLack], layers: int | None, n_ubatch: int) -> None:
    asked = replace(ASKED, n_gpu_layers="auto" if layers is None else layers, n_ubatch=n_ubatch, n_batch=4096)
    attempt, count = FIRST, 0
    for lack in lacks:
        placed = replace(attempt.spec(asked), n_gpu_layers=33 if layers is None else layers)
        following = next_attempt(asked, placed, lack, attempt)
        if following is None:
            break
        assert following != attempt
        attempt, count = following, count + 1
        wanted = attempt.spec(asked)
        assert min(N_UBATCH_MIN, n_ubatch) <= wanted.n_ubatch <= n_ubatch
        assert replace(wanted, n_ubatch=n_ubatch) == asked
    assert count <= RETRIES_MAX
