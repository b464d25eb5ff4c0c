"""POST /v1/embeddings."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cached_property
from typing import Final

import msgspec
from aiohttp import web

from appliance.api.attempts import Attempt
from appliance.api.body import decode, read_body
from appliance.api.forward_pooling import forwarded_whole
from appliance.api.keys import ANSWER_HEADERS, LIMITS
from appliance.api.operation import COMPUTES, Operation
from appliance.api.pooling import PooledAnswer, numbers, pooled, unstreamed, usage_out
from appliance.api.pooling_schema import Embedding, EmbeddingList, EmbeddingRequest, Input
from appliance.api.request_fields import Asked, asked_of
from appliance.api.respond import respond
from appliance.api.shape import AnswerWriter
from appliance.errors import RequestError
from appliance.telemetry.request_record import Fallback
from appliance.types import POOLING_INPUTS_MAX, EmbeddingPrompt, Usage
from appliance.upstream_spec import ServedModel, UpstreamSpec
from appliance.wire import Pooled

# Of vectors that are written at once: 3 ms, as numbers.
PIECE_BYTES: Final = 16 * 1024

_decoder: Final = msgspec.json.Decoder(EmbeddingRequest)
_NO_MESSAGES: Final = (
    "input: missing; texts are embedded, no messages and no images: switch off what the client calls vision support"
)
EMBEDDINGS: Final = Operation(
    summary="One vector of length one for each input, in the order of the inputs.",
    body=_decoder.type,
    example={"model": "demo", "input": ["a text", "another"]},
    answer=EmbeddingList,
    codes=COMPUTES,
)


async def embeddings(http: web.Request) -> web.StreamResponse:
    """One vector of length one for each input, in the order of the inputs."""
    raw = await read_body(http, http.app[LIMITS]())
    asked = unstreamed(asked_of(http, raw, _decoder))
    return await respond(http, asked, EmbeddingEndpoint(http, raw, asked))


class EmbeddingEndpoint:
    """An Endpoint. Nothing steps in: the vectors of another model are of another space, and nothing would tell."""

    path: Final = "embeddings"
    stand_ins: Final[frozenset[Fallback]] = frozenset()
    queues: Final = True

    def __init__(self, http: web.Request, raw: bytes, asked: Asked) -> None:
        self.raw = raw
        self._http = http
        self._asked = asked

    @cached_property
    def _body(self) -> EmbeddingRequest:
        try:
            return decode(self.raw, _decoder)
        except RequestError as error:
            if error.param == "input" and _has_messages(self.raw):
                raise RequestError("invalid_request", _NO_MESSAGES, param="input") from error
            raise

    def attempt(self, spec: ServedModel, seconds_max: float) -> Attempt:
        """See Endpoint."""
        if isinstance(spec, UpstreamSpec):
            return forwarded_whole(self._http, self.raw, self._asked, spec, self.path, seconds_max)
        body = self._body
        prompt = EmbeddingPrompt(
            inputs=_inputs(body.input), truncate=body.truncate is not False, dimensions=body.dimensions
        )
        writer = EmbeddingAnswer(spec.id, self._http[ANSWER_HEADERS], in_base64=body.encoding_format == "base64")
        return pooled(self._http, body, spec, prompt, writer, seconds_max)

    def writer(self, model: str) -> AnswerWriter:
        """See Endpoint."""
        raise AssertionError("no answer to this is fixed")


def _inputs(given: Input) -> tuple[str | tuple[int, ...], ...]:
    """Raises RequestError where it is neither texts nor token ids, or too many."""
    if isinstance(given, str):
        return (given,)
    ids = [item for item in given if isinstance(item, int)]
    if ids and len(ids) == len(given):
        return (tuple(ids),)
    if ids or not given:
        what = "is empty" if not given else "has token ids beside texts or lists"
        message = f"input {what}; send a text, token ids, or a list of either"
        raise RequestError("invalid_request", message, param="input")
    if len(given) > POOLING_INPUTS_MAX:
        message = f"input has {len(given)} entries; send at most {POOLING_INPUTS_MAX} at once"
        raise RequestError("invalid_request", message, param="input")
    return tuple(item if isinstance(item, str) else tuple(item) for item in given if not isinstance(item, int))


def _has_messages(raw: bytes) -> bool:
    """How some clients have an image embedded. raw: what has been decoded as an object."""
    return "messages" in msgspec.json.decode(raw)


class EmbeddingAnswer(PooledAnswer):
    """The body. An AnswerWriter, and InPieces."""

    def __init__(self, model: str, headers: dict[str, str], *, in_base64: bool) -> None:
        super().__init__(headers)
        self._model = model
        self._write = _base64 if in_base64 else numbers

    def whole(self, usage: Usage) -> bytes:
        """See AnswerWriter."""
        return b"".join(self.pieces(usage))

    def pieces(self, usage: Usage) -> Iterator[bytes]:
        """See InPieces."""
        answer = EmbeddingList(data=[], model=self._model, usage=usage_out(usage), truncated=self.truncated)
        before, empty, after = msgspec.json.encode(answer).partition(b'"data":[]')
        yield before + empty[:-1]
        for index, some in enumerate(self._runs()):
            written = msgspec.json.encode([Embedding(one.index, self._write(one.values)) for one in some])
            yield (b"," if index else b"") + written[1:-1]
        yield empty[-1:] + after

    def _runs(self) -> Iterator[tuple[Pooled, ...]]:
        """The vectors, PIECE_BYTES and at least one at a time."""
        length = max(1, PIECE_BYTES // max(1, len(self.pooled[0].values))) if self.pooled else 1
        for start in range(0, len(self.pooled), length):
            yield self.pooled[start : start + length]


def _base64(values: bytes) -> str:
    return base64.b64encode(values).decode()
