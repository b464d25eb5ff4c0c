"""What drawing costs a step: rows of random logits, the product's draw beside llama.cpp's samplers on all tokens.

python -m bench.sampling
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from appliance.engine.detokenizer import Detokenizer
from appliance.engine.runner.candidates import Candidates
from appliance.engine.runner.samplers import Samplers
from appliance.engine.sequence import Sequence
from appliance.types import LogprobParams, SamplingParams

VOCABULARIES = (151_936, 32_000)
ROWS = (1, 8, 16, 64)
REPEATS = 30


def median_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)
