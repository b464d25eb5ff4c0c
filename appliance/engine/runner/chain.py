"""A request's sampling parameters as a chain of llama.cpp's samplers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import llama_cpp

from appliance.types import SamplingParams

# Dividing by less would overflow a 32-bit logit, and only the best token has a chance anyway.
_GREEDY_BELOW: Final = 1e-4
# A bias of this and less forbids a token, as OpenAI's API and llama-server have it.
_FORBIDS: Final = -100.0
# How many tokens mirostat 1 estimates the distribution's slope from: the constant of its paper, of llama-server too.
_MIROSTAT_M: Final = 100
# typical_p and mirostat 1 take the logarithm of every probability. A zero among them makes the rest NaN, so that
# tokens this unlikely, relative to the best, go before; none of them would ever be drawn.
_IMPOSSIBLE: Final = 1e-30


class Chain:
    """Owns the samplers, and with them the RNG and all that outlives a draw. `close` frees it, once.

    params: see SamplingParams for the order. biases: added to logits, -inf forbids. seed: 0 to 2**32 - 2.
    dry: a DRY sampler, which the chain then owns.
    """

    def __init__(
        self, params: SamplingParams, n_vocab: int, biases: Mapping[int, float], seed: int, dry: Any | None
    ) -> None:
        self.native = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if biases:
            self._add(_biases(n_vocab, biases))
        if penalises(params):
            self._add(_penalties(params, n_vocab))
        if dry is not None:
            self._add(dry)
        if is_greedy(params):
            self._add(llama_cpp.llama_sampler_init_greedy())
        elif params.mirostat > 0:
            self._add_mirostat(params, n_vocab, seed)
        else:
            self._add_filters(params, seed)
            self._add(llama_cpp.llama_sampler_init_temp_ext(*_temperature(params)))
            self._add(_draw(params, seed))

    def accept(self, token: int) -> None:
        """The token is part of the text: penalties and dry look back on it."""
        llama_cpp.llama_sampler_accept(self.native, token)

    def close(self) -> None:
        """Frees the samplers."""
        llama_cpp.llama_sampler_free(self.native)
        self.native = None

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self.native, sampler)

    def _add_filters(self, params: SamplingParams, seed: int) -> None:
        keep = params.min_keep
        if params.top_n_sigma > 0:
            self._add(llama_cpp.llama_sampler_init_top_n_sigma(params.top_n_sigma))
        if params.top_k > 0:
            self._add(llama_cpp.llama_sampler_init_top_k(params.top_k))
        if params.typical_p < 1:
            self._add(llama_cpp.llama_sampler_init_min_p(_IMPOSSIBLE, 1))
            self._add(llama_cpp.llama_sampler_init_typical(params.typical_p, keep))
        if params.top_p < 1:
            self._add(llama_cpp.llama_sampler_init_top_p(params.top_p, keep))
        if params.min_p > 0:
            self._add(llama_cpp.llama_sampler_init_min_p(params.min_p, keep))
        if params.xtc_probability > 0:
            self._add(llama_cpp.llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, keep, seed))

    def _add_mirostat(self, params: SamplingParams, n_vocab: int, seed: int) -> None:
        tau, eta = params.mirostat_tau, params.mirostat_eta
        self._add(llama_cpp.llama_sampler_init_temp(params.temperature))
        if params.mirostat == 1:
            self._add(llama_cpp.llama_sampler_init_min_p(_IMPOSSIBLE, 1))
            self._add(llama_cpp.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, _MIROSTAT_M))
        else:
            self._add(llama_cpp.llama_sampler_init_mirostat_v2(seed, tau, eta))


def is_greedy(params: SamplingParams) -> bool:
    """Whether the most likely token is taken, without chance."""
    return params.temperature < _GREEDY_BELOW


def penalises(params: SamplingParams) -> bool:
    """Whether logits of tokens seen before change."""
    penalties = (params.repeat_penalty - 1, params.frequency_penalty, params.presence_penalty)
    return params.repeat_last_n > 0 and any(penalties)


def uses_dry(params: SamplingParams) -> bool:
    """Whether repetitions are penalised by their length."""
    return params.dry_multiplier > 0 and params.dry_penalty_last_n != 0 and params.mirostat == 0


def token_biases(params: SamplingParams, forbidden: frozenset[int]) -> dict[int, float]:
    """What is added to which logit: one entry a token, because llama.cpp adds only the first it finds."""
    wanted = {token: -math.inf if bias <= _FORBIDS else bias for token, bias in params.logit_bias.items() if bias}
    return wanted | dict.fromkeys(sorted(forbidden), -math.inf)


def _temperature(params: SamplingParams) -> tuple[float, float, float]:
    return params.temperature, params.dynatemp_range, params.dynatemp_exponent


def _draw(params: SamplingParams, seed: int) -> Any:
    if params.adaptive_target >= 0:
        return llama_cpp.llama_sampler_init_adaptive_p(params.adaptive_target, params.adaptive_decay, seed)
    return llama_cpp.llama_sampler_init_dist(seed)


def _penalties(params: SamplingParams, n_vocab: int) -> Any:
    return llama_cpp.llama_sampler_init_penalties(
        n_vocab, params.repeat_last_n, params.repeat_penalty, params.frequency_penalty, params.presence_penalty
    )


def _biases(n_vocab: int, biases: Mapping[int, float]) -> Any:
    native = (llama_cpp.llama_logit_bias * len(biases))(
        *(llama_cpp.llama_logit_bias(token, bias) for token, bias in biases.items())
    )
    return llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(native), native)
