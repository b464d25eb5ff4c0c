"""What the endpoints for vectors and scores share: the request they submit, and what they say of its inputs."""

from __future__ import annotations

import sys
from array import array
from typing import Final

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from appliance.api.admission import estimated_tokens
from appliance.api.attempts import Attempt, Terms
from appliance.api.keys import ROUTER
from appliance.api.pooling_schema import PoolingFields, PoolingUsage
from appliance.api.request_fields import Asked, plain_request
from appliance.api.shape import AnswerWriter
from appliance.api.timed_events import GRACE_SECONDS
from appliance.errors import RequestError
from appliance.models.stream import AnswerEvent, Vectors
from appliance.types import ModelSpec, PoolingPrompt, Usage
from appliance.wire import Pooled

TRUNCATED_HEADER: Final = "X-Appliance-Truncated"


def unstreamed(asked: Asked) -> Asked:
    """These endpoints know neither streams nor choices; a client that asks for them gets its one answer whole."""
    return replace(asked, stream=None, stream_options=None, n=None)


def pooled(
    http: web.Request,
    body: PoolingFields,
    spec: ModelSpec,
    prompt: PoolingPrompt,
    writer: AnswerWriter,
    seconds_max: float,
) -> Attempt:
    """An answer of our own engine. Leaving it early, for any reason, aborts it there."""
    request = plain_request(http, body, spec, prompt, seconds_max)
    terms = Terms(1, stream=False, tokens=estimated_tokens(request, 1), seconds_max=seconds_max + GRACE_SECONDS)
    return Attempt(http.app[ROUTER].submit(request), writer, terms)


class PooledAnswer:
    """The vectors or scores of one answer, as they come. headers: of the answer, as long as they are not sent."""

    says_done: Final = False

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self.pooled: tuple[Pooled, ...] = ()

    def chunks(self, event: AnswerEvent) -> list[Struct]:
        """See AnswerWriter."""
        raise AssertionError("these answers are not streamed")

    def failed(self, error: RequestError) -> list[Struct]:
        """See AnswerWriter."""
        raise AssertionError("these answers are not streamed")

    def add(self, event: AnswerEvent) -> None:
        """See AnswerWriter."""
        if isinstance(event, Vectors):
            self.pooled = event.pooled
            if isinstance(cut := self.truncated, list):
                self._headers[TRUNCATED_HEADER] = str(len(cut))

    @property
    def truncated(self) -> list[int] | UnsetType:
        """Indices of the inputs that were cut; UNSET where there are none."""
        return [one.index for one in self.pooled if one.truncated] or UNSET


def usage_out(usage: Usage) -> PoolingUsage:
    """OpenAI's shape."""
    return PoolingUsage(usage.prompt_tokens, usage.prompt_tokens)


def numbers(values: bytes) -> list[float]:
    """Little-endian 32-bit floats, one by one."""
    found = array("f", values)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tolist()
