"""What a request asks of a model, as its record keeps it: enough to ask the same again, and no text. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from appliance.telemetry.request_record import AnswerEvidence
from appliance.types import Request, SamplingParams

_DEFAULTS: Final = SamplingParams()
# What may hold a client's text, in these or as the ids of tokens.
_TEXTS: Final = ("logit_bias", "dry_sequence_breakers")
# Not a sampler's setting, but the seed of them all.
_SEED: Final = "seed"
_KNOWN: Final = tuple(
    (name, getattr(_DEFAULTS, name)) for name in SamplingParams.__struct_fields__ if name not in (*_TEXTS, _SEED)
)
# Of a body that another server reads; a longer number is none.
_NUMBER_BYTES_MAX: Final = 32
_number: Final = msgspec.json.Decoder(bool | int | float)


def evidence_of(request: Request, n: int) -> AnswerEvidence:
    """Of a request that our own engine answers with `n` choices."""
    sampling = request.sampling
    withheld = {"stop": len(request.stop)} if request.stop else {}
    for name in _TEXTS:
        if (value := getattr(sampling, name)) != getattr(_DEFAULTS, name):
            withheld[name] = len(value)
    if request.constraint is not None:
        withheld["constraint"] = len(request.constraint.text)
    if request.must_call is not None:
        withheld["tool_choice"] = 1
    return AnswerEvidence(
        seed=sampling.seed,
        sampling={name: value for name, default in _KNOWN if (value := getattr(sampling, name)) != default},
        max_tokens=request.max_tokens,
        n=n,
        withheld=withheld,
    )


def evidence_elsewhere(fields: Mapping[str, Raw], max_tokens: int | None, n: int) -> AnswerEvidence:
    """Of one that another server answers: what its body says in numbers under the names that we know."""
    said = {name: value for name in (*dict(_KNOWN), _SEED) if (value := _numeric(fields.get(name))) is not None}
    seed = said.pop(_SEED, None)
    return AnswerEvidence(
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        sampling=said,
        max_tokens=max_tokens,
        n=n,
        withheld={name: 1 for name in ("stop", *_TEXTS) if fields.get(name, b"null") != b"null"},
    )


def _numeric(raw: Raw | None) -> bool | int | float | None:
    if raw is None or len(raw) > _NUMBER_BYTES_MAX:
        return None
    try:
        value: bool | int | float = _number.decode(raw)
    except msgspec.MsgspecError:
        return None
    return value
