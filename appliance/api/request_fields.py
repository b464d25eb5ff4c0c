"""What both completion endpoints make of the fields they share."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from appliance.api.openai_schema import SamplingFields
from appliance.errors import RequestError
from appliance.types import SamplingParams

NESTING_MAX: Final = 64
_SAMPLING_NAMES: Final = tuple(field.name for field in msgspec.structs.fields(SamplingParams))


def sampling_of(fields: SamplingFields, defaults: SamplingParams) -> SamplingParams:
    """The model's defaults with what the request says on top."""
    said = {name: value for name in _SAMPLING_NAMES if (value := getattr(fields, name)) is not None}
    return msgspec.structs.replace(defaults, **said)


def stops_of(fields: SamplingFields) -> tuple[str, ...]:
    """Stop strings as a tuple."""
    return (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())


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


def refuse_deep(name: str, value: Any) -> None:
    """Refuses JSON below `name` that is nested more than NESTING_MAX deep; it travels on to templates."""
    level = [value]
    for _ in range(NESTING_MAX):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
        if not level:
            return
    raise RequestError("invalid_request", f"{name}: nested more than {NESTING_MAX} deep", param=name)


def created_now() -> int:
    """OpenAI's `created`: whole seconds since 1970."""
    return int(time.time())
