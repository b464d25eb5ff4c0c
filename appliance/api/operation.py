"""What one route takes and answers, as the API's OpenAPI document says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.typedefs import Handler

from appliance.errors import ErrorCode

# Every request may meet these.
_ALWAYS: Final[tuple[ErrorCode, ...]] = ("invalid_request", "internal_error")
_CALLER: Final[tuple[ErrorCode, ...]] = (
    "missing_api_key",
    "invalid_api_key",
    "certificate_rejected",
    "access_revoked",
    "address_not_allowed",
    "role_not_allowed",
    "audit_unavailable",
)
_BODY: Final[tuple[ErrorCode, ...]] = ("invalid_json", "body_timeout", "body_too_large", "unsupported_media_type")
# Of what a model is asked for.
COMPUTES: Final[tuple[ErrorCode, ...]] = (
    "unsupported_parameter",
    "context_length_exceeded",
    "template_error",
    "model_not_found",
    "too_many_requests",
    "queue_full",
    "kv_cache_full",
    "model_unavailable",
    "engine_crash",
    "shutting_down",
    "deadline_exceeded",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row of the document.

    body, query: what a request's JSON and its query are read into. example: a body that is answered.
    answer: what the JSON of a 200 is written from.
    events: what the JSON of each event of a stream is, where there are streams; done: whether `[DONE]` ends them.
    codes: the errors it has besides those of every request. public: it asks for no key.
    unready: a 503 is written from `answer` too.
    """

    summary: str
    answer: Any
    body: Any = None
    example: Mapping[str, Any] | None = None
    query: Any = None
    events: Any = None
    done: bool = False
    codes: tuple[ErrorCode, ...] = ()
    public: bool = False
    unready: bool = False

    @property
    def errors(self) -> tuple[ErrorCode, ...]:
        """All that it may answer with."""
        return (*_ALWAYS, *(() if self.public else _CALLER), *(() if self.body is None else _BODY), *self.codes)


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One row of the API's table. roles: any one of them suffices; None is open to everyone, for health alone."""

    method: str
    path: str
    handler: Handler
    roles: frozenset[str] | None
    operation: Operation
