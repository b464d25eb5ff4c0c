"""A llama.cpp sampler chain: how one sequence chooses its next token."""

from __future__ import annotations

import secrets
from typing import Any, Final

import llama_cpp

from appliance.engine.runner.vocabulary import Vocabulary
from appliance.types import SamplingParams

# Dividing by less would overflow a 32-bit logit, and only the best token has a chance anyway.
_GREEDY_BELOW: Final = 1e-4
# llama.cpp draws a seed of its own when it is given 2**32 - 1, so that one is never passed on.
_SEEDS: Final = 2**32 - 1


class Sampler:
    """Owns the chain; belongs to the engine thread. `close` frees it, once.

    prompt: tokens that the penalties look back on before the first token of the answer.
    """

    def __init__(self, params: SamplingParams, vocabulary: Vocabulary, prompt: list[int]) -> None:
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if params.ignore_eos and vocabulary.ends:
            self._add(_never(vocabulary))
        if _penalises(params):
            self._add(_penalties(params, vocabulary, prompt))
        if params.temperature < _GREEDY_BELOW:
            self._add(llama_cpp.llama_sampler_init_greedy())
            return
        if params.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(params.top_k))
        if params.top_p < 1:
            self._add(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            self._add(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
        self._add(llama_cpp.llama_sampler_init_temp(params.temperature))
        seed = secrets.randbelow(_SEEDS) if params.seed is None else params.seed % _SEEDS
        self._add(llama_cpp.llama_sampler_init_dist(seed))

    def sample(self, context: Any, row: int) -> int:
        """Draws the token after batch row `row`, and remembers it for the penalties."""
        return int(llama_cpp.llama_sampler_sample(self._chain, context, row))

    def close(self) -> None:
        """Frees the chain and what it owns."""
        llama_cpp.llama_sampler_free(self._chain)
        self._chain = None

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)


def _penalises(params: SamplingParams) -> bool:
    penalties = (params.repeat_penalty - 1, params.frequency_penalty, params.presence_penalty)
    return params.repeat_last_n > 0 and any(penalties)


def _penalties(params: SamplingParams, vocabulary: Vocabulary, prompt: list[int]) -> Any:
    sampler = llama_cpp.llama_sampler_init_penalties(
        vocabulary.size,
        params.repeat_last_n,
        params.repeat_penalty,
        params.frequency_penalty,
        params.presence_penalty,
    )
    for token in prompt[-params.repeat_last_n :]:
        llama_cpp.llama_sampler_accept(sampler, token)
    return sampler


def _never(vocabulary: Vocabulary) -> Any:
    """Forbids every token that ends an answer."""
    biases = (llama_cpp.llama_logit_bias * len(vocabulary.ends))(
        *(llama_cpp.llama_logit_bias(token, float("-inf")) for token in sorted(vocabulary.ends))
    )
    return llama_cpp.llama_sampler_init_logit_bias(vocabulary.size, len(biases), biases)
