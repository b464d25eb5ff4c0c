"""POST /v1/rerank, /v1/reranking and /v2/rerank."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET

from appliance.api.attempts import Attempt
from appliance.api.body import decode, read_body
from appliance.api.forward_pooling import forwarded_whole
from appliance.api.keys import ANSWER_HEADERS, EVIDENCE, LIMITS
from appliance.api.operation import COMPUTES, Operation
from appliance.api.pooling import PooledAnswer, numbers, pooled, unstreamed, usage_out
from appliance.api.pooling_schema import DocumentIn, DocumentOut, RerankList, RerankRequest, RerankResult
from appliance.api.request_fields import Asked, asked_of, route_of
from appliance.api.respond import respond
from appliance.api.shape import AnswerWriter
from appliance.telemetry.request_record import Fallback
from appliance.types import RerankPrompt, Usage
from appliance.upstream_spec import ServedModel, UpstreamSpec

_decoder: Final = msgspec.json.Decoder(RerankRequest)
RERANK: Final = Operation(
    summary="How relevant each document is for a query, the most relevant first.",
    body=_decoder.type,
    example={"model": "demo", "query": "a question", "documents": ["a text", "another"]},
    answer=RerankList,
    codes=COMPUTES,
)


async def rerank(http: web.Request) -> web.StreamResponse:
    """How relevant each document is for the query, the most relevant first."""
    raw = await read_body(http, http.app[LIMITS]())
    asked = unstreamed(asked_of(http, raw, _decoder))
    body = decode(raw, _decoder)
    if not body.documents:
        return _nothing(http, body)
    return await respond(http, asked, RerankEndpoint(http, raw, asked, body))


def _nothing(http: web.Request, body: RerankRequest) -> web.Response:
    """Of no documents none is relevant: a knowledge base may have found nothing, which is no error."""
    route = route_of(http, body.model, body.user or "")
    answer = RerankAnswer(http[EVIDENCE].id, route.models[0], body, {})
    whole = answer.whole(Usage(prompt_tokens=0, completion_tokens=0))
    headers = {"X-Request-Id": http[EVIDENCE].id}
    return web.Response(body=whole, content_type="application/json", charset="utf-8", headers=headers)


class RerankEndpoint:
    """An Endpoint. Another model may step in: its scores are compared with each other only."""

    path: Final = "rerank"
    stand_ins: Final[frozenset[Fallback]] = frozenset({"model"})
    queues: Final = True

    def __init__(self, http: web.Request, raw: bytes, asked: Asked, body: RerankRequest) -> None:
        self.raw = raw
        self._http = http
        self._asked = asked
        self._body = body

    def attempt(self, spec: ServedModel, seconds_max: float) -> Attempt:
        """See Endpoint."""
        if isinstance(spec, UpstreamSpec):
            return forwarded_whole(self._http, self.raw, self._asked, spec, self.path, seconds_max)
        body = self._body
        prompt = RerankPrompt(query=body.query, documents=_texts(body), truncate=body.truncate is not False)
        writer = RerankAnswer(self._http[EVIDENCE].id, spec.id, body, self._http[ANSWER_HEADERS])
        return pooled(self._http, body, spec, prompt, writer, seconds_max)

    def writer(self, model: str) -> AnswerWriter:
        """See Endpoint."""
        raise AssertionError("no answer to this is fixed")


def _texts(body: RerankRequest) -> tuple[str, ...]:
    return tuple(one.text if isinstance(one, DocumentIn) else one for one in body.documents)


class RerankAnswer(PooledAnswer):
    """The body. An AnswerWriter."""

    def __init__(self, request_id: str, model: str, body: RerankRequest, headers: dict[str, str]) -> None:
        super().__init__(headers)
        self._id = request_id
        self._model = model
        self._body = body

    def whole(self, usage: Usage) -> bytes:
        """See AnswerWriter."""
        scores = {one.index: numbers(one.values)[0] for one in self.pooled}
        best = sorted(scores, key=lambda index: (-scores[index], index))[: self._body.top_n]
        results = [RerankResult(index, scores[index], self._document(index)) for index in best]
        return msgspec.json.encode(
            RerankList(
                id=f"rerank-{self._id}",
                model=self._model,
                results=results,
                usage=usage_out(usage),
                truncated=self.truncated,
            )
        )

    @cached_property
    def _shown(self) -> tuple[str, ...]:
        return _texts(self._body) if self._body.return_documents else ()

    def _document(self, index: int) -> DocumentOut | msgspec.UnsetType:
        return DocumentOut(self._shown[index]) if self._shown else UNSET
