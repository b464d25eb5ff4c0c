"""What both completion endpoints make of the fields they share."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from appliance.api.keys import EVIDENCE, ROUTER
from appliance.api.openai_schema import SamplingFields
from appliance.errors import RequestError
from appliance.types import ModelSpec, Prompt, Request, SamplingParams
from appliance.validation import explain

NESTING_MAX: Final = 64
FREE_FORM_BYTES_MAX: Final = 2**20
T = TypeVar("T")
_SAMPLING_NAMES: Final = tuple(field.name for field in msgspec.structs.fields(SamplingParams))


def model_of(http: web.Request, body: SamplingFields) -> ModelSpec:
    """The model a request asks for, noted in its evidence. Raises RequestError (model_not_found)."""
    draft = http[EVIDENCE]
    draft.stream = bool(body.stream)
    spec = http.app[ROUTER].spec(body.model)
    draft.model = spec.id
    return spec


def request_of(
    http: web.Request,
    body: SamplingFields,
    spec: ModelSpec,
    *,
    prompt: Prompt,
    max_tokens: int | None,
) -> Request:
    """The immutable request: the model's sampling defaults with what the body says on top."""
    draft = http[EVIDENCE]
    assert draft.principal is not None, "the middleware has run"
    said = {name: value for name in _SAMPLING_NAMES if (value := getattr(body, name)) is not None}
    return Request(
        id=draft.id,
        model=spec.id,
        principal=draft.principal,
        cache_domain=draft.principal,
        prompt=prompt,
        sampling=msgspec.structs.replace(spec.sampling, **said),
        max_tokens=max_tokens,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
    )


def include_usage(fields: SamplingFields) -> bool:
    """Did the client ask for the usage chunk?"""
    return bool(fields.stream_options and fields.stream_options.include_usage)


def refuse_unsupported(**said: object) -> None:
    """Refuses fields that would change the answer and that this version does not act on.

    Pass each field by name with a true value where the request asks for it.
    """
    for name, asked in said.items():
        if asked:
            raise RequestError("unsupported_parameter", f"{name}: this version does not support it", param=name)


def free_form(name: str, raw: msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T | None:
    """A field whose content is the template's business; None where it is absent or null.

    Bounded in size before it is decoded, and in depth and numbers after, because it travels on as msgpack.
    """
    if len(raw) > FREE_FORM_BYTES_MAX:
        raise RequestError("invalid_request", f"{name}: more than {FREE_FORM_BYTES_MAX // 1024} KiB", param=name)
    if bytes(raw) in (b"", b"null"):
        return None
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError as error:
        message, place = explain(error)
        where = f"{name}{place if place.startswith('[') or not place else '.' + place}"
        raise RequestError("invalid_request", f"{where}: {message}", param=where) from error
    level: list[Any] = [value]
    for _ in range(NESTING_MAX):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
        if any(isinstance(item, int) and not -(2**63) <= item < 2**63 for item in level):
            raise RequestError("invalid_request", f"{name}: a number is out of range", param=name)
        if not level:
            return value
    raise RequestError("invalid_request", f"{name}: nested more than {NESTING_MAX} deep", param=name)
