"""Vectors and scores as another server says them: its body as it came, but for the model's name. Pure."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from appliance.models.stream import AnswerEnd, Relayed
from appliance.models.upstream.refusal import refusal_in_answer
from appliance.models.upstream.request import UpstreamRequest
from appliance.types import Usage

_NULL: Final = Raw(b"null")
_fields: Final = msgspec.json.Decoder(dict[str, Raw])
# What the answer is there for.
_LIST_OF: Final = {"embeddings": "data", "rerank": "results"}


class _Usage(Struct, frozen=True):
    """Servers count one or the other."""

    prompt_tokens: int | None = None
    total_tokens: int | None = None


_usage: Final = msgspec.json.Decoder(_Usage | None)


class PoolingRelay:
    """One answer, which comes whole. See AnswerRelay."""

    def __init__(self, request: UpstreamRequest) -> None:
        self._request = request
        self.fingerprint: str | None = None
        self.done = False

    def chunk(self, data: bytes) -> Relayed | None:
        """See AnswerRelay."""
        raise AssertionError("these answers are not streamed")

    def end(self) -> tuple[Relayed, AnswerEnd]:
        """See AnswerRelay."""
        raise AssertionError("these answers are not streamed")

    def cut_off(self) -> tuple[Relayed, AnswerEnd] | None:
        """Half of them would be none."""
        return None

    def whole(self, data: bytes) -> tuple[Relayed, AnswerEnd]:
        """The body. Raises RequestError for one that says what failed, ValueError for what is no answer."""
        try:
            fields = _fields.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError("sends what is no JSON object") from error
        if fields.get("error", _NULL) != _NULL:
            raise refusal_in_answer(data)
        wanted = _LIST_OF[self._request.endpoint]
        if not bytes(fields.get(wanted, _NULL)).lstrip().startswith(b"["):
            raise ValueError(f"sends an answer without `{wanted}`")
        fields["model"] = Raw(msgspec.json.encode(self._request.model))
        self.done = True
        usage = Usage(prompt_tokens=self._tokens(fields), completion_tokens=0)
        end = AnswerEnd(choice=0, reason="stop", usage=usage, timings=None)
        return Relayed(objects=(Raw(msgspec.json.encode(fields)),)), end

    def _tokens(self, fields: dict[str, Raw]) -> int:
        """As the server counted, else as we did: a reranker's usage has many shapes."""
        try:
            said = _usage.decode(fields.get("usage", _NULL))
        except msgspec.DecodeError:
            said = None
        counted = None if said is None else said.prompt_tokens or said.total_tokens
        return self._request.prompt_tokens if counted is None else max(0, counted)
