"""appliance.placement.layout"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.placement.estimate import estimate
from appliance.placement.layout import Layout, divided
from tests.unit.placement.making import MIB, facts, machine, spec


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8))
def test_llama_cpp_divides_as_we_count(counts: list[int]) -> None:
    """Numbers of layers as tensor_split give back those numbers."""
    items = sum(counts)
    assert divided(items, [float(count) for count in counts]) == (tuple(counts) if items else None)


def test_every_byte_of_a_model_is_somewhere() -> None:
    need = estimate(facts(), spec(preempt_host_mib=0))
    layout = Layout(need)
    for items in range(layout.items + 1):
        taken = layout.footprint((items,))
        fixed = need.compute + need.device_process + (need.tensor_max if items < layout.items else 0)
        layers = taken.devices[0] - fixed if items else 0
        rest = taken.host - need.process - need.output_buffer - need.later
        computing = need.compute + need.host_work if items < layout.items else need.mask + need.input_activations
        assert layers + rest - computing == need.weights + need.cache


def test_a_tied_output_takes_memory_of_its_own_on_a_gpu_only() -> None:
    need = estimate(facts(tied_output=True, output_bytes=1000, weight_bytes=850 * MIB + 1000), spec())
    layout = Layout(need)
    assert need.weights == 850 * MIB + 1000
    gone = layout.footprint((0,)).host - layout.footprint((1,)).host
    assert gone == 0
    assert layout.footprint((1,)).devices[0] > 50 * MIB


def test_shares_are_kept() -> None:
    layout = Layout(estimate(facts(), spec()), (1.0, 3.0))
    assert layout.most(machine(8000, 8000, 8000), 0) == (3, 6)
    assert layout.most(machine(8000, 8000, 1128), 0) == (2, 4)
