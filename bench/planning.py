"""What it costs to plan a step while many wait, and to keep in host memory what a preempted sequence holds.

python -m bench.planning
"""

from __future__ import annotations

import statistics
import time
from typing import Final

from appliance.engine.advance import Sampled
from appliance.engine.detokenizer import Detokenizer
from appliance.engine.limits import Limits
from appliance.engine.plan import BatchItem, KeepPrefix, Plan, RestoreState, SaveState
from appliance.engine.runner import Runner, load
from appliance.engine.scheduler import Scheduler
from appliance.engine.sequence import Sequence
from appliance.types import ModelSpec, SamplingParams
from bench.shape_model import build

SLOTS: Final = 16
STEPS: Final = 300
WARM_UP_STEPS: Final = 100
STATE_TOKENS: Final = 1024
REPEATS: Final = 5


def planning(waiting: int, flows: int) -> float:
    """Seconds to plan a step in which SLOTS sequences decode and `waiting` others have no slot; median."""
    limits = Limits(parallel=SLOTS, n_slots=2 * SLOTS, n_cells=65_536, n_ctx=4096, n_batch=2048, n_ubatch=512)
    scheduler = Scheduler(limits)
    for number in range(SLOTS + waiting):
        scheduler.add(_sequence(number, [number % 200 + 1, number] * 20, flow=str(number % flows)))
    took = []
    for _ in range(STEPS):
        began = time.perf_counter()
        plan = scheduler.schedule(0.0)
        took.append(time.perf_counter() - began)
        scheduler.commit(plan, [Sampled(5, b"a", False) for item in plan.items if item.sample], 0.0, 0.01)
    return statistics.median(took[WARM_UP_STEPS:])


def saving(runner: Runner) -> tuple[float, float]:
    """Seconds a token: to compute it, and to bring it to host memory and back; the best of REPEATS."""
    sequence = _sequence(1, list(range(100, 100 + STATE_TOKENS + 1)))
    prompt = BatchItem(sequence, 0, 0, sequence.tokens[:STATE_TOKENS], sample=False)
    forget = KeepPrefix(0, 0)
    there_and_back = (SaveState(0, 1), forget, RestoreState(0, 1, STATE_TOKENS))
    computed = min(_time(runner, Plan((), (forget,), (prompt,))) for _ in range(REPEATS))
    saved = min(_time(runner, Plan((), there_and_back, ())) for _ in range(REPEATS))
    return computed / STATE_TOKENS, saved / STATE_TOKENS


def _time(runner: Runner, plan: Plan) -> float:
    began = time.perf_counter()
    runner.launch(plan)
    outcome = runner.collect(plan)
    assert not hasattr(outcome, "slots"), "the cache lost something"
    return time.perf_counter() - began


def _sequence(number: int, tokens: list[int], flow: str = "") -> Sequence:
    return Sequence(
        number=number,
        tokens=tokens,
        output_max=STEPS,
        sampling=SamplingParams(),
        detokenizer=Detokenizer(),
        arrived=0.0,
        flow=flow,
    )


def main() -> None:
    """Prints both."""
    for waiting, flows in ((0, 1), (496, 1), (496, 500)):
        print(f"{SLOTS} decode, {waiting:3} wait in {flows:3} flows: {planning(waiting, flows) * 1000:.3f} ms to plan")
    spec = ModelSpec(id="bench", path=str(build().resolve()), parallel=2, n_ctx=8192, n_batch=STATE_TOKENS)
    computed, saved = saving(load(spec, lambda _: None))
    print(
        f"a token of {STATE_TOKENS}: {computed * 1e6:.0f} µs to compute, {saved * 1e6:.1f} µs to host memory and back"
    )


if __name__ == "__main__":
    main()
