"""How one request chooses its tokens, from its first draw to its end."""

from __future__ import annotations

import math
import secrets
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.engine.runner.chain import Chain, is_greedy, penalises, token_biases
from appliance.engine.runner.recent import RecentTokens
from appliance.engine.runner.shortlist import best_max
from appliance.engine.runner.vocabulary import TokenTable
from appliance.engine.sequence import Sequence

# llama.cpp draws a seed of its own when it is given 2**32 - 1, so that one is never passed on.
_SEEDS: Final = 2**32 - 1


class Sampler:
    """Belongs to the engine thread. `close` frees what llama.cpp holds, once.

    forbidden: tokens that are never drawn. greedy: the most likely token is taken. plain: that is the row's first
    maximum as it is.
    best: how many of the likeliest tokens beside the touched ones a draw needs; None: it must see all tokens.
    """

    def __init__(self, sequence: Sequence, vocabulary: TokenTable) -> None:
        params, dry = sequence.sampling, sequence.dry
        seed = secrets.randbelow(_SEEDS) if params.seed is None else params.seed % _SEEDS
        biases = token_biases(params, vocabulary.suppressed | (vocabulary.ends if params.ignore_eos else frozenset()))
        self.chain = Chain(params, vocabulary.size, biases, seed, None if dry is None else dry.take())
        window = max(params.repeat_last_n if penalises(params) else 0, 0 if dry is None else dry.last_n)
        self._recent = RecentTokens(window)
        self._biased = np.array(list(biases), np.int64)
        self.forbidden = np.array([token for token, bias in biases.items() if bias == -math.inf], np.int64)
        for token in sequence.tokens[-window:] if window else ():
            self.accept(token)
        self.greedy = is_greedy(params)
        self.plain = self.greedy and not biases and not window
        best = 1 if self.greedy else params.top_k
        cuts = self.greedy or (params.mirostat == 0 and params.top_n_sigma <= 0)
        self.best = best if cuts and 0 < best <= best_max(vocabulary.size) else None

    @property
    def touched(self) -> NDArray[np.int64]:
        """At least the tokens whose logits the chain may change before it cuts to the best; some may come twice."""
        return np.concatenate((self._biased, self._recent.distinct())) if self._recent.size else self._biased

    def accept(self, token: int, *, by_chain: bool = True) -> None:
        """The token is part of the text. by_chain: the chain has yet to be told."""
        if by_chain:
            self.chain.accept(token)
        self._recent.push(token)

    def close(self) -> None:
        """The request has ended."""
        self.chain.close()
