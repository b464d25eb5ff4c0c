"""Another server's refusals as ours: what is about the request goes on, the rest is a failure of our own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec
from msgspec import Struct

from appliance.errors import CODES, ErrorCode, RequestError
from appliance.safe_text import without_secrets

RETRY_SECONDS: Final = 5
RETRY_SECONDS_MAX: Final = 600
# Of all that a server may answer, what says that this request, and not the server, is at fault.
_ABOUT_THE_REQUEST: Final[Mapping[int, ErrorCode]] = {
    400: "invalid_request",
    408: "body_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    501: "unsupported_parameter",
}
# A full server: another one may have room, and later so has this one.
BUSY: Final = frozenset({429, 503})


class _Error(Struct, frozen=True):
    message: str | None = None
    param: str | None = None
    code: str | int | None = None
    type: str | None = None


_envelope: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_bare: Final = msgspec.json.Decoder(_Error)
_text: Final = msgspec.json.Decoder(str)


def refusal(status: int, body: bytes, retry_after: str | None, model: str) -> RequestError:
    """The error for a client whose request was answered with `status`, which is not 200.

    model: its id here. What is no fault of the request says nothing of the server: that is the operator's business.
    """
    error = _error_of(body)
    if status in _ABOUT_THE_REQUEST:
        return RequestError(
            _code_of(error, status) or _ABOUT_THE_REQUEST[status],
            without_secrets(error.message or "the server that serves this model refuses the request"),
            param=error.param,
        )
    seconds = _seconds(retry_after)
    if status in BUSY:
        return RequestError(
            "queue_full", f"the servers of model {model!r} have no room now; try again later", retry_after=seconds
        )
    return RequestError(
        "model_unavailable",
        f"model {model!r} cannot be served: its server failed; try again later",
        retry_after=seconds,
    )


def refusal_in_answer(data: bytes) -> RequestError:
    """The error that an answer says in its middle, or instead of one, after a 200."""
    error = _error_of(data)
    code = _known(error.code) or "engine_crash"
    return RequestError(code, without_secrets(error.message or "the server that serves this model failed"))


def _code_of(error: _Error, status: int) -> ErrorCode | None:
    """Their code where it is one of ours and says the same: an appliance's, or OpenAI's."""
    code = _known(error.code)
    return code if code is not None and CODES[code][0] in (400, status) else None


def _known(code: object) -> ErrorCode | None:
    """What a server says of keys, roles and models is about us: its client must not take it for itself."""
    if not isinstance(code, str) or code not in CODES:
        return None
    known = cast(ErrorCode, code)
    return None if CODES[known][0] in (401, 403, 404, 405) else known


def _error_of(body: bytes) -> _Error:
    """OpenAI's `{"error": {…}}`, TGI's `{"error": "…"}`, FastAPI's `{"detail": "…"}`, older vLLM's bare object."""
    try:
        fields = _envelope.decode(body)
        inner = fields.get("error", fields.get("detail"))
        if inner is None:
            return _bare.decode(body)
        if bytes(inner).startswith(b'"'):
            return _Error(message=_text.decode(inner))
        return _bare.decode(inner)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _Error()


def _seconds(retry_after: str | None) -> int:
    """Whole seconds; the other form of the header, a date, is not worth a clock."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdecimal():
        return RETRY_SECONDS
    return min(max(1, int(retry_after[:6])), RETRY_SECONDS_MAX)
