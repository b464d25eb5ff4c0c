"""The runner in this process: what it tells the scheduler when llama.cpp does not follow the plan."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.engine.plan import (
    BatchItem,
    CopyPrefix,
    Done,
    KeepPrefix,
    NoRoom,
    Outcome,
    Plan,
    RestoreState,
    ReuseLost,
    SaveState,
)
from appliance.engine.runner import Runner, load
from appliance.engine.scheduler import Scheduler
from appliance.errors import LoadError
from appliance.types import SamplingParams
from tests.engine.conftest import random_spec, recite_spec
from tests.models.other_memories import build_recurrent
from tests.models.vocabulary import BOS, EOS, ID, SPACE
from tests.unit.engine.making import make_sequence


@pytest.fixture(scope="module")
def runner(recite_gguf: Path) -> Runner:
    return load(recite_spec(recite_gguf, n_ctx=256, parallel=2, n_batch=512), lambda fraction: None)


def execute(runner: Runner, plan: Plan) -> Outcome:
    runner.launch(plan)
    return runner.collect(plan)


def step(tokens: list[int], *, sample: bool = True, start: int = 0) -> Plan:
    sequence = make_sequence(1, tokens)
    return Plan(events=(), cache=(), items=(BatchItem(sequence, 0, start, tokens, sample),))


def empty(runner: Runner) -> None:
    cuts = tuple(KeepPrefix(slot, 0) for slot in range(runner.limits.n_slots))
    assert execute(runner, Plan(events=(), cache=cuts, items=())) == Done(())
    runner.close(1)
    runner.check_cache([0, 0])


def test_a_vocabulary_tells_of_each_token_what_it_is_asked(runner: Runner) -> None:
    vocabulary = runner.vocabulary
    said = {token: vocabulary.pieces[token] for token in range(vocabulary.size)}
    assert (said[ID["a"]], said[ID[SPACE]], said[ID["<0x0A>"]], said[EOS]) == (b"a", b" ", b"\n", b"")
    assert said == vocabulary.pieces and max(map(len, said.values())) <= vocabulary.piece_bytes_max
    assert vocabulary.ends == {EOS}


def test_a_batch_that_does_not_fit_leaves_nothing_behind(runner: Runner) -> None:
    execute(runner, step([5] * 200, sample=False))
    beside = make_sequence(2, [6] * 100)
    assert execute(runner, Plan((), (), (BatchItem(beside, 1, 0, beside.tokens, True),))) == NoRoom()
    runner.check_cache([200, 0])
    empty(runner)


def test_the_books_are_compared_with_the_cache(runner: Runner) -> None:
    execute(runner, step([5, 6, 7], sample=False))
    runner.check_cache([3, 0])
    with pytest.raises(AssertionError, match="slot 0 ends at 2"):
        runner.check_cache([4, 0])
    empty(runner)


def test_samplers_must_not_outlive_their_requests(runner: Runner) -> None:
    outcome = execute(runner, step([BOS, ID["y"]]))
    assert isinstance(outcome, Done)
    assert (outcome.sampled[0].piece, outcome.sampled[0].is_end) == (b"z", False)
    with pytest.raises(AssertionError, match="samplers"):
        runner.check_cache([2, 0])
    empty(runner)


def test_a_dry_sampler_that_nobody_takes_is_freed(runner: Runner) -> None:
    params = SamplingParams(dry_multiplier=1.0, dry_penalty_last_n=-1)
    waiting = make_sequence(1, [5])
    waiting.dry = runner.preparer.prepare(params)
    assert waiting.dry is not None and waiting.dry.last_n == runner.limits.n_ctx
    freed = weakref.ref(waiting.dry)
    waiting.dry = None
    assert freed() is None
    assert runner.preparer.prepare(SamplingParams(dry_multiplier=1.0, dry_penalty_last_n=0)) is None


def test_the_end_token_has_no_piece(runner: Runner) -> None:
    outcome = execute(runner, step([BOS, ID["z"]]))
    assert isinstance(outcome, Done)
    assert outcome.sampled[0].token == EOS
    assert (outcome.sampled[0].piece, outcome.sampled[0].is_end) == (b"", True)
    empty(runner)


def test_a_position_that_is_not_next_is_fatal(runner: Runner) -> None:
    execute(runner, step([5, 6], sample=False))
    with pytest.raises(RuntimeError, match="llama_decode failed with -1"):
        execute(runner, step([5], start=77))
    empty(runner)


def test_a_recurrent_state_cannot_go_back_and_the_answer_is_right_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "recurrent.gguf"
    build_recurrent(path)
    runner = load(random_spec(path, parallel=1), lambda fraction: None)
    assert runner.limits.reuse == "whole"
    # The scheduler is told that any prefix can be kept, so that the runner must refuse.
    scheduler = Scheduler(replace(runner.limits, reuse="any"))
    prompt = [BOS, *range(60, 100)]
    tokens = []
    lost = []
    for number in (1, 2):
        sequence = make_sequence(number, prompt, output_max=10)
        sequence.sampling = SamplingParams(temperature=0)
        scheduler.add(sequence)
        while scheduler.has_work:
            plan = scheduler.schedule(0.0)
            outcome = execute(runner, plan)
            if isinstance(outcome, ReuseLost):
                lost.append(outcome)
                scheduler.reuse_lost(outcome.slots)
            else:
                assert isinstance(outcome, Done)
                scheduler.commit(plan, outcome.sampled, 0.0)
        runner.close(number)
        runner.check_cache(scheduler.residents())
        tokens.append(sequence.tokens)
    assert lost == [ReuseLost((1,))]
    assert tokens[0] == tokens[1]


def test_progress_rises_to_one(recite_gguf: Path) -> None:
    fractions: list[float] = []
    load(recite_spec(recite_gguf), fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LoadError, match=r"model\.gguf: the service may not read this file"):
        load(recite_spec(tmp_path / "model.gguf"), lambda fraction: None)


def test_nothing_is_built_on_what_was_lost(runner: Runner) -> None:
    """An empty state saved in the place of a full one would come back as a context that is not there."""
    lost = Plan((), (RestoreState(0, 1, 5), SaveState(0, 1), CopyPrefix(0, 1, 5)), ())
    assert execute(runner, lost) == ReuseLost((0, 1))
    assert execute(runner, Plan((), (RestoreState(0, 1, 5),), ())) == ReuseLost((0,))
    execute(runner, step([BOS, 5, 6], sample=False))
    assert execute(runner, Plan((), (SaveState(0, 1), KeepPrefix(0, 0), RestoreState(0, 1, 7)), ())) == ReuseLost((0,))
    execute(runner, step([BOS, 5, 6], sample=False))
    assert execute(runner, Plan((), (SaveState(0, 1), KeepPrefix(0, 0), RestoreState(0, 1, 3)), ())) == Done(())
    empty(runner)
