"""Log probabilities of drawn tokens, natural logarithms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.engine.runner.shortlist import best_max, shortlist
from appliance.types import TokenLogprob

# What OpenAI's API reports for a probability of zero: JSON has no infinity.
_IMPOSSIBLE: Final = -9999.0
_SLICE: Final = 32_768
_NO_TOKENS: Final = np.empty(0, np.int64)


def of_model(row: NDArray[np.float32], token: int, top: int, pieces: Mapping[int, bytes]) -> TokenLogprob:
    """By the model's own distribution: the softmax of a row of logits."""
    total = _log_sum_exp(row)
    best: list[tuple[int, float]] = []
    if top > 0:
        listed = top <= best_max(len(row))
        tokens = shortlist(row[None], [0], [top], [_NO_TOKENS]).tokens if listed else np.arange(len(row))
        best = _best(tokens, row[tokens].astype(np.float64) - total, top)
    return _report(token, float(row[token]) - total, best, pieces)


def of_draw(
    tokens: NDArray[np.int32], probabilities: NDArray[np.float32], token: int, top: int, pieces: Mapping[int, bytes]
) -> TokenLogprob:
    """By the distribution that the token was drawn from."""
    possible = probabilities > 0
    tokens, logprobs = tokens[possible], np.log(probabilities[possible].astype(np.float64))
    drawn = logprobs[tokens == token]
    return _report(token, float(drawn[0]) if len(drawn) else -math.inf, _best(tokens, logprobs, top), pieces)


def of_prompt(
    tokens: Items[int], scores: range, rows: NDArray[np.float32], top: int, pieces: Mapping[int, bytes]
) -> tuple[TokenLogprob, ...]:
    """Of those `tokens` that `scores` says; rows: what was computed of the token before each, but for the first."""
    first = scores.start == 0
    told = [TokenLogprob(tokens[0], pieces[tokens[0]], 0.0)] if first else []
    told += [of_model(row, tokens[place], top, pieces) for row, place in zip(rows, scores[first:], strict=True)]
    return tuple(told)


def of_certainty(token: int, top: int, pieces: Mapping[int, bytes]) -> TokenLogprob:
    """Of a token that nothing else could have been drawn for."""
    return _report(token, 0.0, [(token, 0.0)][:top], pieces)


def _log_sum_exp(row: NDArray[np.float32]) -> float:
    """NaN where no logit is finite or one is NaN. By slices: a fresh array of the row's size costs more than exp."""
    peak = row.max()
    if not np.isfinite(peak):
        return math.nan
    sums = (float(np.exp(row[start : start + _SLICE] - peak).sum()) for start in range(0, len(row), _SLICE))
    return float(peak) + math.log(math.fsum(sums))


def _best(tokens: NDArray[np.integer], logprobs: NDArray[np.floating], top: int) -> list[tuple[int, float]]:
    """The likeliest, best first; of equals the lower token first."""
    order = np.lexsort((tokens, -logprobs))[:top]
    return list(zip(tokens[order].tolist(), logprobs[order].tolist(), strict=True))


def _report(token: int, logprob: float, best: Iterable[tuple[int, float]], pieces: Mapping[int, bytes]) -> TokenLogprob:
    top = tuple((each, pieces[each], _finite(value)) for each, value in best)
    return TokenLogprob(token, pieces[token], _finite(logprob), top)


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _IMPOSSIBLE
