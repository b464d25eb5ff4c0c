"""What can be refused or made of a request's sampling parameters before the engine thread sees it."""

from __future__ import annotations

from appliance.engine.runner.chain import uses_dry
from appliance.engine.runner.dry import DryPenalties, DryPenalty
from appliance.engine.runner.vocabulary import Vocabulary
from appliance.errors import RequestError
from appliance.types import SamplingParams


class Preparer:
    """Belongs to the io thread. n_ctx: the most tokens of one request."""

    def __init__(self, vocabulary: Vocabulary, n_ctx: int) -> None:
        self._n_vocab = vocabulary.size
        self._dry = DryPenalties(vocabulary, n_ctx)

    def prepare(self, params: SamplingParams) -> DryPenalty | None:
        """The request's DRY sampler, where it wants one. Raises RequestError."""
        check_logit_bias(params, self._n_vocab)
        return self._dry.make(params) if uses_dry(params) else None


def check_logit_bias(params: SamplingParams, n_vocab: int) -> None:
    """Raises RequestError where a token id is not one of the model's."""
    highest = max(params.logit_bias, default=0)
    if highest >= n_vocab:
        message = f"logit_bias names token {highest}; this model has the tokens 0 to {n_vocab - 1}"
        raise RequestError("invalid_request", message, param="logit_bias")
