"""A request for vectors or scores whose model another server serves: sent as it came, and answered whole."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web
from msgspec import Raw

from appliance.api.admission import tokens_of_text
from appliance.api.attempts import Attempt, Terms
from appliance.api.body import decode
from appliance.api.forward import refuse_many_fields
from appliance.api.keys import EVIDENCE, ROUTER, settings_of
from appliance.api.openai_schema import CacheSalt
from appliance.api.request_fields import Asked, cache_domain
from appliance.api.shape import RelayedAnswer
from appliance.models.upstream.request import Endpoint, UpstreamRequest, cache_salt, upstream_body
from appliance.upstream_spec import UpstreamSpec


class _Salted(msgspec.Struct, frozen=True):
    cache_salt: CacheSalt | None = None


_salted: Final = msgspec.json.Decoder(_Salted)
_fields: Final = msgspec.json.Decoder(dict[str, Raw])


def forwarded_whole(
    http: web.Request, raw: bytes, asked: Asked, spec: UpstreamSpec, endpoint: Endpoint, seconds_max: float
) -> Attempt:
    """Has the request answered by one of the model's servers, and passes on its body as it is."""
    refuse_many_fields(raw)
    draft = http[EVIDENCE]
    assert draft.principal is not None, "the middleware has run"
    domain = cache_domain(draft.principal, settings_of(http), decode(raw, _salted).cache_salt)
    fields = {name: value for name, value in decode(raw, _fields).items() if name not in ("stream", "stream_options")}
    request = UpstreamRequest(
        id=draft.id,
        model=spec.id,
        principal=draft.principal,
        served_as=spec.model or spec.id,
        endpoint=endpoint,
        body=upstream_body(
            fields,
            model=spec.model or spec.id,
            stream=False,
            cache_salt=cache_salt(domain) if spec.cache_salt else None,
        ),
        n=1,
        stream=False,
        include_usage=False,
        # Names and quotes of the body are few beside its texts.
        prompt_tokens=1 + tokens_of_text(len(raw)),
        seconds_max=seconds_max,
        traceparent=None if draft.trace is None else draft.trace.header(),
    )
    terms = Terms(1, stream=False, tokens=request.prompt_tokens, seconds_max=seconds_max)
    return Attempt(http.app[ROUTER].forward(request), RelayedAnswer(), terms)
