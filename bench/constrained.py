"""What a constraint costs: eight streams that must keep to one, in turns with the same streams without.

    python -m bench.constrained [--rounds 12] [--streams 8] [--tokens 64]

The model of Qwen2.5-0.5B's shape with its 152k tokens, in this process. In each round every contestant gets prompts of
its own, in an order drawn anew; the ratio of the decoding rates is taken within the round. The weights are random: the
draw meets forbidden tokens on top far more often than with a model that knows what JSON is.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from typing import Any, Final

from appliance.types import Constraint, ModelSpec
from bench.bare_engine import BareEngine
from bench.compare import physical_cores
from bench.shape_model import build
from bench.workload import numbered

FREE: Final = "free"
PROMPT_WORDS: Final = 32


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
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--constraints", default=",".join(list(CONSTRAINTS)[1:]), help="comma-separated")
    parser.add_argument("--threads", type=int, default=physical_cores())
    asked = parser.parse_args()
    threads: dict[str, Any] = {"threads": asked.threads, "threads_batch": asked.threads}
    engine = BareEngine(ModelSpec(id="shape", path=str(build()), n_ctx=8192, parallel=asked.streams, **threads))
    order, number = random.Random(0), 0
    wanted = [FREE, *asked.constraints.split(",")]
    rates: dict[str, list[float]] = {name: [] for name in wanted}
    for turn in range(asked.rounds + 1):
        for name in order.sample(wanted, len(wanted)):
            number += 1
            rate = _rate(engine, number * 1000, asked.streams, asked.tokens, CONSTRAINTS[name])
            if turn > 0:
                rates[name].append(rate)
    print(f"{asked.streams} streams, {asked.tokens} tokens each, {asked.rounds} rounds")
    for name, measured in rates.items():
        ratios = [one / free for one, free in zip(measured, rates[FREE], strict=True)]
        quartiles = " / ".join(f"{ratio:.3f}" for ratio in statistics.quantiles(ratios, method="inclusive"))
        print(f"  {name:10}{statistics.median(measured):8.1f} tok/s   of free: {quartiles}", flush=True)


def _rate(engine: BareEngine, first: int, streams: int, tokens: int, constraint: Constraint | None) -> float:
    """Tokens a second of all streams, from the last one's first token on."""
    questions = [numbered(first + stream, PROMPT_WORDS, tokens) for stream in range(streams)]
    answers = [engine.submit(question, constraint) for question in questions]
    for answer in answers:
        answer.done.wait()
        assert answer.tokens == tokens, "an answer ended early"
    began = max(answer.first for answer in answers)
    return streams * tokens / (max(answer.ended for answer in answers) - began)


if __name__ == "__main__":
    main()
