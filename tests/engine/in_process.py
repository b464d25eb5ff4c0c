"""The scheduler and the real runner in this process, step by step, with every row of logits kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from appliance.engine.advance import Advance
from appliance.engine.plan import Done, KeepPrefix, NoRoom, Plan, ReuseLost
from appliance.engine.runner import Runner
from appliance.engine.scheduler import Scheduler
from appliance.engine.sequence import Sequence
from appliance.types import SamplingParams, TokenLogprob
from appliance.wire import Scored, Started
from tests.unit.engine.making import make_sequence


@dataclass
class Trace:
    """What one sequence did. rows: the logits each token was drawn from."""

    tokens: list[int]
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    cached: int = 0


def greedy(number: int, tokens: list[int], *, output_max: int = 12, principal: str = "") -> Sequence:
    sequence = make_sequence(number, tokens, output_max=output_max)
    sequence.sampling = SamplingParams(temperature=0, ignore_eos=True)
    sequence.principal = principal
    return sequence


class Engine:
    """Runs sequences to their ends. `kinds` collects the kinds of cache operations that were carried out."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.scheduler = Scheduler(runner.limits)
        self.traces: dict[int, Trace] = {}
        self.kinds: set[str] = set()
        self.lost: list[int] = []
        self.scored: dict[int, list[TokenLogprob]] = {}

    def add(self, *sequences: Sequence) -> None:
        for sequence in sequences:
            self.traces[sequence.number] = Trace(sequence.tokens)
            self.scheduler.add(sequence)

    def run(self, between: Callable[[int], None] = lambda step: None) -> dict[int, Trace]:
        """Until nothing is left; `between` is called after each step."""
        step = 0
        while self.scheduler.has_work:
            self.step()
            between(step)
            step += 1
        self.runner.check_cache(self.scheduler.residents())
        return self.traces

    def step(self) -> None:
        plan = self.scheduler.schedule(0.0)
        self.kinds |= {type(op).__name__ for op in plan.cache}
        for event in plan.events:
            if isinstance(event, Started):
                self.traces[event.number].cached = event.cached_tokens
        self.runner.launch(plan)
        match outcome := self.runner.collect(plan):
            case Done():
                for sequence, row in self._rows(plan):
                    self.traces[sequence.number].rows.append(row)
                events = self.scheduler.commit(plan, outcome.sampled, 0.0, scored=outcome.scored)
                for event in events:
                    if isinstance(event, Scored):
                        self.scored.setdefault(event.number, []).extend(event.logprobs)
                self._close(event for event in events if isinstance(event, Advance))
            case NoRoom():
                raise AssertionError("the books promise room")
            case ReuseLost():
                self.lost += outcome.slots
                self.scheduler.reuse_lost(outcome.slots)
        self.scheduler.check_integrity()

    def _rows(self, plan: Plan) -> list[tuple[Sequence, NDArray[np.float32]]]:
        rows, position = [], 0
        for item in plan.items:
            position += len(item.tokens)
            if item.sample:
                logits = llama_cpp.llama_get_logits_ith(self.runner._context, position - 1)
                row = np.ctypeslib.as_array(logits, (self.runner.vocabulary.size,)).copy()
                rows.append((item.sequence, row))
        return rows

    def _close(self, advances: Iterable[Advance]) -> None:
        for advance in advances:
            if advance.reason is not None:
                self.runner.close(advance.sequence.number)

    def empty(self) -> None:
        """Leaves the runner as it was found."""
        cuts = tuple(KeepPrefix(slot, 0) for slot in range(self.runner.limits.n_slots))
        plan = Plan(events=(), cache=cuts, items=())
        self.runner.launch(plan)
        assert self.runner.collect(plan) == Done(())


def alone(runner: Runner, sequences: Iterable[Sequence]) -> dict[int, Trace]:
    """Each sequence by itself, on an empty cache: what nothing may differ from."""
    traces: dict[int, Trace] = {}
    for sequence in sequences:
        engine = Engine(runner)
        engine.add(sequence)
        traces |= engine.run()
        engine.empty()
    return traces


def assert_same(traces: dict[int, Trace], expected: dict[int, Trace], *, atol: float) -> None:
    """Equal tokens, and at every step logits within `atol`."""
    for number, trace in traces.items():
        wanted = expected[number]
        assert len(trace.rows) == len(wanted.rows)
        for step, (row, cold) in enumerate(zip(trace.rows, wanted.rows, strict=True)):
            difference = float(np.abs(row - cold).max())
            assert difference <= atol, f"request {number}, step {step}: logits differ by {difference}"
        assert trace.tokens == wanted.tokens
