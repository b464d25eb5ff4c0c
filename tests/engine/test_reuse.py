"""No reuse of a cache changes an answer: at every step the logits are those of the request alone on an empty cache.

On every kind of memory, unified and split: prefixes copied from idle and from running sequences, siblings that wait,
preemption in place, through host memory, and with everything computed again. Reusing one wrong cell moves logits by 2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from appliance.engine.runner import Runner, load
from appliance.engine.sequence import Sequence
from appliance.types import ModelSpec
from tests.engine.conftest import random_spec
from tests.engine.in_process import Engine, Trace, alone, assert_same, greedy
from tests.engine.test_consistency import text
from tests.models.other_memories import build_hybrid, build_recurrent, build_sliding_window
from tests.models.random_weights import build_random

TOLERANCE = 0.05
BUILDS: dict[str, Callable[[Path], None]] = {
    # Smaller than elsewhere: steps are quick, and one wrong token in 110 still moves logits by 2.8.
    "attention": partial(build_random, size=256),
    "recurrent": build_recurrent,
    "sliding window": build_sliding_window,
    "hybrid": build_hybrid,
}


@pytest.fixture(scope="module")
def runner_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Runner]:
    folder = tmp_path_factory.mktemp("models")

    @cache
    def load_one(kind: str, **changes: object) -> Runner:
        path = folder / f"{kind}.gguf"
        if not path.exists():
            BUILDS[kind](path)
        values: dict[str, object] = {"n_ctx": 2048, "parallel": 3, "n_batch": 64, "n_ubatch": 32}
        spec: ModelSpec = random_spec(path, **(values | changes))
        return load(spec, lambda fraction: None)

    return load_one


@pytest.fixture(
    params=[(kind, kv) for kind in BUILDS for kv in ("unified", "split")], ids=lambda param: f"{param[0]}, {param[1]}"
)
def runner(request: pytest.FixtureRequest, runner_of: Callable[..., Runner]) -> Runner:
    kind, kv = request.param
    return runner_of(kind, kv=kv)


@pytest.fixture
def engine(runner: Runner) -> Iterator[Engine]:
    engine = Engine(runner)
    yield engine
    engine.empty()


def family(runner: Runner, count: int, *, seed: int = 1, shared: int = 90, own: int = 20) -> list[list[int]]:
    """Prompts that begin alike."""
    source = random.Random(seed)
    system = text(source, shared)
    return [runner.vocabulary.tokenize(system + text(source, own)) for _ in range(count)]


def test_siblings_share_what_the_first_computes(engine: Engine) -> None:
    """Also where a state cannot go back: it is copied at the border, and kept there for those that come later."""
    prompts = family(engine.runner, 6)
    expected = alone(engine.runner, [greedy(number, prompt) for number, prompt in enumerate(prompts)])
    engine.add(*(greedy(number, prompt) for number, prompt in enumerate(prompts[:3])))
    engine.run()
    engine.add(*(greedy(number, prompt) for number, prompt in enumerate(prompts[3:], 3)))
    traces = engine.run()
    assert_same(traces, expected, atol=TOLERANCE)
    cached = [traces[number].cached for number in range(6)]
    assert cached[0] == 0 and min(cached[1:3]) >= 80
    if not engine.runner.limits.split:
        assert min(cached[3:]) >= 80
    assert "CopyPrefix" in engine.kinds and not engine.lost


def test_a_prefix_of_a_sequence_that_decodes(engine: Engine) -> None:
    first, second = family(engine.runner, 2, seed=2)
    second = [*first[:100], *second[100:]]
    expected = alone(engine.runner, [greedy(1, first, output_max=30), greedy(2, second)])
    engine.add(greedy(1, first, output_max=30))

    def join(step: int) -> None:
        if step == 10:
            engine.add(greedy(2, second))

    traces = engine.run(join)
    assert_same(traces, expected, atol=TOLERANCE)
    if engine.runner.limits.reuse == "any":
        assert traces[2].cached >= 100


def test_a_conversation_goes_on(engine: Engine) -> None:
    (prompt,) = family(engine.runner, 1, seed=3)
    turns = [prompt]
    for turn in range(3):
        engine.add(greedy(turn, turns[-1]))
        engine.run()
        turns.append([*engine.traces[turn].tokens, *turns[0][20:40]])
    engine_turns = dict(engine.traces)
    engine.empty()
    expected = alone(engine.runner, [greedy(turn, turns[turn]) for turn in range(3)])
    assert_same(engine_turns, expected, atol=TOLERANCE)
    assert engine_turns[2].cached >= len(turns[1])


def test_preempted_for_another_principal_and_back(engine: Engine) -> None:
    prompts = family(engine.runner, 4, seed=4)
    flood = [greedy(number, prompt, output_max=40, principal="flooder") for number, prompt in enumerate(prompts[:3])]
    expected = alone(
        engine.runner,
        [greedy(number, prompt, output_max=40) for number, prompt in enumerate(prompts[:3])] + [greedy(9, prompts[3])],
    )
    engine.add(*flood)

    def join(step: int) -> None:
        if step == 20:
            engine.add(greedy(9, prompts[3], principal="other"))

    traces = engine.run(join)
    assert_same(traces, expected, atol=TOLERANCE)
    assert engine.scheduler.preemptions >= 1
    assert ("RestoreState" in engine.kinds) == engine.runner.limits.split, "beyond split mode it stays where it is"


def too_many(runner: Runner) -> list[Sequence]:
    """Four that do not fit together into 320 cells."""
    source = random.Random(6)
    prompts = [runner.vocabulary.tokenize(text(source, 60)) for _ in range(4)]
    return [greedy(number, prompt, output_max=120) for number, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def one_by_one(runner_of: Callable[..., Runner]) -> Callable[[str], dict[int, Trace]]:
    """What becomes of those four alone. It takes longer than anything else here, and knows no preemption."""

    @cache
    def of(kind: str) -> dict[int, Trace]:
        runner = runner_of(kind, n_ctx=320, preempt_host_mib=64)
        return alone(runner, too_many(runner))

    return of


@pytest.mark.parametrize("kind", BUILDS)
@pytest.mark.parametrize("host_mib", [64, pytest.param(1, marks=pytest.mark.slow), 0])
def test_preempted_for_want_of_cells(
    runner_of: Callable[..., Runner], one_by_one: Callable[[str], dict[int, Trace]], kind: str, host_mib: int
) -> None:
    """Through host memory; where there is too little of it, or none, by computing everything again."""
    engine = Engine(runner_of(kind, n_ctx=320, preempt_host_mib=host_mib))
    engine.add(*too_many(engine.runner))
    expected = one_by_one(kind)
    assert_same(engine.run(), expected, atol=TOLERANCE)
    assert engine.scheduler.preemptions >= 1
    assert ("RestoreState" in engine.kinds) == (host_mib > 0)
    if host_mib != 1 and kind != "sliding window":  # whose restored cells need not fit
        assert not engine.lost
    engine.empty()


@pytest.mark.parametrize("kind", BUILDS)
def test_gaps_between_streams_are_closed(runner_of: Callable[..., Runner], kind: str) -> None:
    runner = runner_of(kind, kv="split", parallel=4)
    prompts = family(runner, 4, seed=7, shared=5)
    lengths = [4, 40, 4, 40]
    asked = list(zip(range(4), prompts, lengths, strict=True))
    expected = alone(runner, [greedy(number, prompt, output_max=length) for number, prompt, length in asked])
    engine = Engine(runner)
    engine.add(*(greedy(number, prompt, output_max=length) for number, prompt, length in asked))
    assert_same(engine.run(), expected, atol=TOLERANCE)
    assert "SwapSlots" in engine.kinds and not engine.lost
    engine.empty()
