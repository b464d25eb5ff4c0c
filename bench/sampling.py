"""What drawing the tokens of a step costs: random logits of many sequences, without a model.

    python -m bench.sampling

`product` is what the engine does. `llama.cpp` is the same chain applied to an array of the whole vocabulary for each
sequence, the array filled beforehand: what llama_sampler_sample does, less the filling. Milliseconds a step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.engine.detokenizer import Detokenizer
from appliance.engine.runner.candidates import Candidates
from appliance.engine.runner.sampler import Sampler
from appliance.engine.runner.samplers import Samplers
from appliance.engine.sequence import Sequence
from appliance.types import LogprobParams, SamplingParams
from tests.unit.engine.runner.making import FakeTable

VOCABULARIES: Final = (151_936, 32_000)
ROWS: Final = (1, 8, 16, 64)
REPEATS: Final = 25
REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "greedy": {"temperature": 0},
    "penalties": {"repeat_penalty": 1.1},
    "logprobs": {},
    "no top_k": {"top_k": 0},
}
LOGPROBS: Final = LogprobParams(top=5)


def main() -> None:
    for n_vocab in VOCABULARIES:
        table = FakeTable(n_vocab)
        for rows in ROWS:
            logits = _logits(rows, n_vocab)
            alone = {name: _product(table, logits, name) for name in REQUESTS}
            shown = "  ".join(f"{name} {spent:.2f}" for name, spent in alone.items())
            print(f"{n_vocab} tokens, {rows:2} rows: {shown}", flush=True)
            one, two = _llama(table, logits), _halves(table, logits)
            print(f"{'':24}llama.cpp default {one:.2f}  product on two threads {two:.2f}", flush=True)


def _logits(rows: int, n_vocab: int) -> NDArray[np.float32]:
    """Peaked as a language model's are: about 20 tokens hold most of the probability."""
    generator = np.random.default_rng(0)
    line = -1.5 * np.log(np.arange(1, n_vocab + 1, dtype=np.float32))
    return np.stack([generator.permutation(line) for _ in range(rows)])


def _sequences(rows: int, name: str) -> list[Sequence]:
    return [
        Sequence(
            number=row,
            tokens=list(range(100, 300)),
            output_max=1,
            sampling=SamplingParams(seed=row, **REQUESTS[name]),
            detokenizer=Detokenizer(()),
            arrived=0.0,
            logprobs=LOGPROBS if name == "logprobs" else None,
        )
        for row in range(rows)
    ]


def _product(table: FakeTable, logits: NDArray[np.float32], name: str) -> float:
    samplers, sequences = Samplers(table), _sequences(len(logits), name)
    return _median_ms(lambda: samplers.draw(logits, sequences))


def _halves(table: FakeTable, logits: NDArray[np.float32]) -> float:
    """Two threads, each with half of the rows and samplers of its own."""
    sequences = _sequences(len(logits), "default")
    middle = len(logits) // 2
    shares = [slice(0, middle), slice(middle, None)]
    samplers = [Samplers(table) for _ in shares]
    with ThreadPoolExecutor(1) as pool:

        def work() -> None:
            other = pool.submit(samplers[0].draw, logits[shares[0]], sequences[shares[0]])
            samplers[1].draw(logits[shares[1]], sequences[shares[1]])
            other.result()

        return _median_ms(work)


def _llama(table: FakeTable, logits: NDArray[np.float32]) -> float:
    samplers = [Sampler(sequence, table) for sequence in _sequences(len(logits), "default")]
    n_vocab = logits.shape[1]
    times = []
    for _ in range(5):
        arrays = [Candidates(np.arange(n_vocab), row, np.array([n_vocab])) for row in logits]
        began = time.perf_counter()
        for candidates, sampler in zip(arrays, samplers, strict=True):
            candidates.apply(0, sampler.chain.native)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def _median_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    main()
