"""Bodies of the endpoints for vectors and scores, as OpenAI, Jina and Cohere have them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from appliance.api.openai_schema import CacheSalt, DeadlineSeconds, KeepAlive
from appliance.types import POOLING_INPUTS_MAX, PROMPT_TOKENS_MAX, Priority, TokenId

# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────

TokenIds = Annotated[list[TokenId], Meta(max_length=PROMPT_TOKENS_MAX)]
# One list of token ids is one input; so the bound on inputs is looked at later.
_MANY = {"maxItems": POOLING_INPUTS_MAX, "items": {"type": ["string", "array"]}}
Input = (
    str
    | Annotated[
        list[str | TokenId | TokenIds],
        Meta(
            min_length=1,
            max_length=PROMPT_TOKENS_MAX,
            extra_json_schema={"anyOf": [{"items": {"type": "integer"}}, _MANY]},
        ),
    ]
)


class PoolingFields(Struct, frozen=True, kw_only=True):
    """Fields that both kinds share; unknown ones are ignored.

    truncate: what is too long is cut, which is the default; false: it is refused. The last four are ours, as in
    `CompletionFields`.
    """

    model: Annotated[str, Meta(min_length=1)]
    user: str | None = None
    truncate: bool | None = None
    priority: Priority | None = None
    deadline_seconds: DeadlineSeconds | None = None
    keep_alive: KeepAlive | None = None
    cache_salt: CacheSalt | None = None


class EmbeddingRequest(PoolingFields, frozen=True, kw_only=True):
    """POST /v1/embeddings."""

    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None


class DocumentIn(Struct, frozen=True):
    """A document with fields of which we read the text."""

    text: str


class RerankRequest(PoolingFields, frozen=True, kw_only=True):
    """POST /v1/rerank. top_n: how many of the best; all by default."""

    query: str
    documents: Annotated[list[str | DocumentIn], Meta(max_length=POOLING_INPUTS_MAX)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None


# ── responses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class PoolingUsage(Struct, frozen=True):
    """Tokens of all inputs, after they were cut."""

    prompt_tokens: int
    total_tokens: int


class Embedding(Struct, frozen=True):
    """embedding: numbers, or base64 of little-endian 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingList(Struct, frozen=True, kw_only=True):
    """The answer to POST /v1/embeddings. truncated: indices of the inputs that were cut, where there are any."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: PoolingUsage
    truncated: list[int] | UnsetType = UNSET


class DocumentOut(Struct, frozen=True):
    """A document as it came."""

    text: str


class RerankResult(Struct, frozen=True):
    """index: in the request's documents. relevance_score: 0 to 1."""

    index: int
    relevance_score: float
    document: DocumentOut | UnsetType = UNSET


class RerankList(Struct, frozen=True, kw_only=True):
    """The answer to POST /v1/rerank, best first."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[RerankResult]
    usage: PoolingUsage
    truncated: list[int] | UnsetType = UNSET
