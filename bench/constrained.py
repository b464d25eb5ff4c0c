"""What a constraint costs: eight streams that must keep to one, in turns with the same streams without.

    python -m bench.constrained [--rounds 12] [--streams 8] [--tokens 64]

The model of Qwen2.5-0.5B's shape with its 152k tokens, in this process. In each round every contestant gets prompts of
its own, in an order drawn anew; the ratio of the decoding rates is taken within the round, shown are its quartiles.
With `--threads 1` the engine thread computes by itself, so that its processor time is all of the work, whatever else
the machine does. The weights are random: the draw meets forbidden tokens on top far more often than with a model that
knows what JSON is.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from dataclasses import dataclass
from typing import Any, Final

from appliance.types import Constraint, ModelSpec
from bench.bare_engine import BareEngine
from bench.compare import physical_cores
from bench.shape_model import SHAPES, build
from bench.workload import numbered

FREE: Final = "free"
PROMPT_WORDS: Final = 32


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens of all streams a second: of time, and of the engine thread's processor time."""

    wall: float
    processor: float


def _records() -> dict[str, Any]:
    """An array too long for any answer here, of objects whose texts are short: many kinds of masks."""
    record = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 24},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"enum": ["new", "old", "lost", "found"]}, "minItems": 1, "maxItems": 4},
            "note": {"type": "string"},
        },
        "required": ["name", "age", "tags", "note"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": record, "minItems": 1000}


CONSTRAINTS: Final[dict[str, Constraint | None]] = {
    FREE: None,
    "schema": Constraint(kind="json_schema", text=json.dumps(_records())),
    "any JSON": Constraint(kind="json_schema", text='{"type": "array", "minItems": 1000}'),
    "regex": Constraint(kind="regex", text=r"([A-Z][a-z]{2,8} ){100,}"),
}


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--constraints", default=",".join(list(CONSTRAINTS)[1:]), help="comma-separated")
    parser.add_argument("--threads", type=int, default=physical_cores())
    asked = parser.parse_args()
    threads: dict[str, Any] = {"threads": asked.threads, "threads_batch": asked.threads}
    engine = BareEngine(
        ModelSpec(id="shape", path=str(build(SHAPES[asked.shape])), n_ctx=8192, parallel=asked.streams, **threads)
    )
    order, number = random.Random(0), 0
    wanted = [FREE, *asked.constraints.split(",")]
    rates: dict[str, list[Rates]] = {name: [] for name in wanted}
    for turn in range(asked.rounds + 1):
        for name in order.sample(wanted, len(wanted)):
            number += 1
            measured = _rates(engine, number * 1000, asked.streams, asked.tokens, CONSTRAINTS[name])
            if turn > 0:
                rates[name].append(measured)
        print(f"round {turn} of {asked.rounds}", flush=True)
    print(f"{asked.streams} streams, {asked.tokens} tokens each, {asked.threads} threads")
    for name in wanted:
        _report(name, rates)


def _wall(rates: Rates) -> float:
    return rates.wall


def _processor(rates: Rates) -> float:
    return rates.processor


def _report(name: str, rates: dict[str, list[Rates]]) -> None:
    print(f"  {name:10}{statistics.median(each.wall for each in rates[name]):8.1f} tok/s", end="")
    for title, value in (("wall", _wall), ("processor", _processor)):
        ratios = [value(one) / value(free) for one, free in zip(rates[name], rates[FREE], strict=True)]
        quartiles = " / ".join(f"{ratio:.3f}" for ratio in statistics.quantiles(ratios, method="inclusive"))
        print(f"   {title} {quartiles}", end="")
    print(flush=True)


def _rates(engine: BareEngine, first: int, streams: int, tokens: int, constraint: Constraint | None) -> Rates:
    """From the last stream's first token to the last one's end."""
    questions = [numbered(first + stream, PROMPT_WORDS, tokens) for stream in range(streams)]
    answers = [engine.submit(question, constraint) for question in questions]
    for answer in answers:
        answer.done.wait()
        assert answer.tokens == tokens, "an answer ended early"
    wall = max(answer.ended for answer in answers) - max(answer.first for answer in answers)
    busy = max(answer.busy[-1] for answer in answers) - max(answer.busy[0] for answer in answers)
    return Rates(streams * tokens / wall, streams * tokens / busy)


if __name__ == "__main__":
    main()
