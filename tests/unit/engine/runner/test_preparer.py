"""What a vocabulary makes impossible is refused before the engine sees it."""

from __future__ import annotations

import pytest

from appliance.engine.runner.preparer import check_logit_bias
from appliance.errors import RequestError
from appliance.types import SamplingParams


def test_every_token_of_the_model_may_be_biased() -> None:
    check_logit_bias(SamplingParams(), 100)
    check_logit_bias(SamplingParams(logit_bias={0: 1.0, 99: -100}), 100)


def test_a_token_beyond_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="token 100; this model has the tokens 0 to 99") as refused:
        check_logit_bias(SamplingParams(logit_bias={5: 1.0, 100: 0.0}), 100)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "logit_bias")
