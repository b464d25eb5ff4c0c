"""appliance.placement.place"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.gguf.facts import ModelFacts
from appliance.gguf.layers import Layer
from appliance.gguf.quantised import SmallerModel
from appliance.placement.estimate import Footprint
from appliance.placement.evictions import evictable
from appliance.placement.memory import Loaded, Memory
from appliance.placement.place import NoRoom, Placement, Smaller, place, placed_spec
from appliance.placement.retry import PLACED
from appliance.types import ModelSpec
from tests.unit.placement.making import GIB, MIB, facts, machine, resident, spec

MARGIN = 100 * MIB
STEP_MIB = 50
Question = tuple[ModelFacts, ModelSpec, Memory, list[Loaded]]


@st.composite
def questions(draw: st.DrawFn, crowded: bool = False) -> Question:
    """Models from much too small to much too large for the machine, with others that hold up to most of it.

    crowded: little is free, and most that is taken is by models that are idle.
    """
    devices = draw(st.integers(0, 3))
    model = facts(
        draw(st.integers(1, 12)),
        draw(st.integers(1, 300)),
        tied_output=draw(st.booleans()),
        sliding_window=draw(st.sampled_from([0, 512])),
    )
    wanted = spec(
        n_ctx=draw(st.sampled_from([64, 2048, 8192, 65_536])),
        parallel=draw(st.sampled_from([1, 4])),
        kv=draw(st.sampled_from(["auto", "unified", "split"])),
        n_gpu_layers=draw(st.one_of(st.just("auto"), st.integers(0, 14))),
        flash_attn=draw(st.sampled_from(["auto", "off"])),
        preempt_host_mib=draw(st.sampled_from([0, 1024])),
        tensor_split=draw(st.sampled_from([(), (), (1.0, 1.0), (0.0, 3.0, 1.0)])),
    )
    sizes = st.integers(0, 12 if crowded else 80).map(lambda steps: steps * STEP_MIB)
    memory = machine(draw(sizes), *(draw(sizes) for _ in range(devices)))
    loaded = [
        resident(
            f"m{index}",
            draw(st.integers(0, 20)) * STEP_MIB,
            [draw(st.integers(0, 30)) * STEP_MIB for _ in range(devices)],
            pinned=not crowded and draw(st.booleans()),
            busy=draw(st.booleans()),
            used=draw(st.integers(0, 3)),
        )
        for index in range(draw(st.integers(0, 4)))
    ]
    return model, wanted, memory, loaded


def half(model: ModelFacts) -> SmallerModel:
    """The same with half the bytes in each weight."""
    layers = tuple(Layer(layer.weight_bytes // 2, layer.heads, layer.kv_heads) for layer in model.layers)
    made = replace(
        model,
        layers=layers,
        weight_bytes=model.weight_bytes // 2,
        input_bytes=model.input_bytes // 2,
        output_bytes=model.output_bytes // 2,
    )
    return SmallerModel(to="q4_0", facts=made)


def decide(model: ModelFacts, wanted: ModelSpec, memory: Memory, loaded: Sequence[Loaded]) -> Placement | NoRoom:
    smaller = Smaller(models=(half(model),), command="quantize m --to")
    return place(model, wanted, memory, loaded, margin_bytes=MARGIN, smaller=smaller)


def named(loaded: Sequence[Loaded], names: Sequence[str]) -> list[Loaded]:
    return [model for model in loaded if model.model in names]


def within(footprint: Footprint, memory: Memory) -> bool:
    return footprint.host <= memory.host.available_bytes - MARGIN and all(
        taken == 0 or taken <= device.free_bytes - MARGIN
        for taken, device in zip(footprint.devices, memory.devices, strict=True)
    )


@given(questions())
def test_it_never_commits_more_than_there_is(question: Question) -> None:
    model, wanted, memory, loaded = question
    found = decide(model, wanted, memory, loaded)
    if not isinstance(found, Placement):
        return
    leaving = named(loaded, found.evict)
    assert all(not gone.pinned and not gone.busy for gone in leaving)
    assert within(found.footprint, memory.plus(leaving))
    assert sum(found.tensor_split) == found.n_gpu_layers <= found.layers == len(model.layers) + 1
    if wanted.n_gpu_layers != "auto" and memory.devices:
        assert found.n_gpu_layers == min(wanted.n_gpu_layers, found.layers)


@given(questions(), st.integers(0, 40), st.integers(0, 40), st.integers(0, 3))
def test_more_memory_never_makes_it_worse(question: Question, host: int, device: int, which: int) -> None:
    model, wanted, memory, loaded = question
    found = decide(model, wanted, memory, loaded)
    if not isinstance(found, Placement):
        return
    more = [device * STEP_MIB * MIB if index == which else 0 for index in range(len(memory.devices))]
    extra = Footprint(-host * STEP_MIB * MIB, tuple(-count for count in more))
    better = decide(model, wanted, memory.less(extra), loaded)
    assert isinstance(better, Placement)
    assert better.n_gpu_layers >= found.n_gpu_layers


@given(questions(crowded=True))
def test_nobody_leaves_who_need_not(question: Question) -> None:
    model, wanted, memory, loaded = question
    found = decide(model, wanted, memory, loaded)
    if not isinstance(found, Placement):
        return
    idle = evictable(loaded)
    for stays in named(loaded, found.evict):
        # With one fewer to choose from it needs as many, or puts fewer layers on GPUs, or does not fit at all.
        others = [replace(other, pinned=True) if other is stays else other for other in idle]
        again = decide(model, wanted, memory, others)
        if isinstance(again, Placement) and again.n_gpu_layers >= found.n_gpu_layers:
            assert len(again.evict) >= len(found.evict)


@given(questions())
def test_what_is_advised_fits(question: Question) -> None:
    model, wanted, memory, loaded = question
    found = decide(model, wanted, memory, loaded)
    if not isinstance(found, NoRoom):
        return
    assert "'new'" in found.sentence
    for way in found.ways:
        assert way.words in found.sentence
        leaving = named(loaded, way.evict)
        assert within(way.footprint, memory.plus(leaving))
        rest = [other for other in loaded if other not in leaving]
        assert isinstance(decide(way.facts, way.spec, memory.plus(leaving), rest), Placement)


def test_all_layers_go_to_one_gpu_where_one_is_enough_the_fullest_of_those() -> None:
    found = decide(facts(), spec(), machine(4000, 8000, 3000, 500), ())
    assert isinstance(found, Placement)
    assert (found.n_gpu_layers, found.tensor_split, found.evict) == (9, (0, 9, 0), ())
    assert found.footprint.devices[0] == 0 < found.footprint.devices[1]


def test_several_gpus_take_what_one_cannot() -> None:
    found = decide(facts(20, 200), spec(), machine(8000, 4000, 4000), ())
    assert isinstance(found, Placement)
    assert found.n_gpu_layers == 21 and min(found.tensor_split) > 5


def test_the_rest_goes_to_the_host_and_is_slower() -> None:
    whole = decide(facts(), spec(), machine(8000, 8000), ())
    part = decide(facts(), spec(), machine(8000, 1200), ())
    none = decide(facts(), spec(), machine(8000, 300), ())
    assert isinstance(whole, Placement) and isinstance(part, Placement) and isinstance(none, Placement)
    assert 9 == whole.n_gpu_layers > part.n_gpu_layers > none.n_gpu_layers == 0
    assert whole.tokens_per_second > 2 * part.tokens_per_second > 2 * none.tokens_per_second > 0


def test_without_a_gpu_a_number_of_layers_means_nothing() -> None:
    found = decide(facts(), spec(n_gpu_layers=99), machine(8000), ())
    assert isinstance(found, Placement)
    assert (found.n_gpu_layers, found.tensor_split) == (0, ())


def test_who_was_not_used_for_longest_leaves_first_and_alone_where_that_is_enough() -> None:
    loaded = [resident("new use", 2000, used=9), resident("old use", 2000, used=1), resident("pin", 2000, pinned=True)]
    found = decide(facts(), spec(), machine(500), loaded)
    assert isinstance(found, Placement)
    assert found.evict == ("old use",)
    # One that is large enough goes before two that are older.
    small = [resident("a", 800, used=1), resident("b", 800, used=2), resident("c", 1500, used=3)]
    found = decide(facts(), spec(), machine(100), small)
    assert isinstance(found, Placement)
    assert found.evict == ("c",)


def test_an_idle_model_leaves_before_layers_go_to_the_host() -> None:
    found = decide(facts(), spec(), machine(8000, 1200), [resident("idle", 100, (4000,))])
    assert isinstance(found, Placement)
    assert (found.n_gpu_layers, found.evict) == (9, ("idle",))


def test_an_operator_is_told_what_would_help() -> None:
    wanted = spec(n_ctx=65_536, n_gpu_layers=9)
    loaded = [resident("chat", 0, (2000,), busy=True), resident("kept", 0, (500,), pinned=True)]
    found = decide(facts(), wanted, machine(8000, 1900), loaded)
    assert isinstance(found, NoRoom)
    words = [way.words for way in found.ways]
    assert words[0] == "n_ctx 9728" or words[0].startswith(("n_ctx", "cache_type_k"))
    assert any(word.startswith("n_gpu_layers ") and "tokens/s" in word for word in words)
    assert words[-1] == "unload 'chat' (busy)"
    assert "1.9 GiB on GPU 0, 7.8 GiB of host memory" in found.sentence


def test_the_largest_file_that_fits_is_advised_before_others_must_go() -> None:
    model, loaded = facts(20, 200), [resident("chat", 3000, busy=True)]
    quarter = replace(half(half(model).facts), to="q2_0")
    smaller = Smaller(models=(half(model), quarter), command="quantize m --to")

    def advised(free: int) -> list[str]:
        found = place(model, spec(), machine(free), loaded, margin_bytes=MARGIN, smaller=smaller)
        assert isinstance(found, NoRoom)
        return [way.words for way in found.ways]

    assert advised(3000) == ["q4_0 weights, about 2.0 GiB: `quantize m --to q4_0`", "unload 'chat' (busy)"]
    assert advised(2000) == ["q2_0 weights, about 1.0 GiB: `quantize m --to q2_0`", "unload 'chat' (busy)"]


def test_what_no_setting_helps_is_said() -> None:
    found = decide(facts(80, 500), spec(), machine(2000), ())
    assert isinstance(found, NoRoom)
    assert found.ways == () and "smaller quantisation" in found.sentence
    assert found.need.host > 39 * GIB


def test_auto_becomes_a_number_in_what_is_loaded() -> None:
    found = decide(facts(), spec(), machine(8000, 8000, 8000), ())
    assert isinstance(found, Placement)
    loads = placed_spec(spec(), found)
    assert (loads.n_gpu_layers, loads.tensor_split) == (9, (9.0, 0.0))
    assert replace(loads, **{field: getattr(spec(), field) for field in PLACED}) == spec()
    none = decide(facts(), spec(), machine(8000), ())
    assert isinstance(none, Placement)
    assert (placed_spec(spec(), none).n_gpu_layers, placed_spec(spec(), none).tensor_split) == (0, ())
