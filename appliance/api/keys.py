"""What handlers find on the application and on a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from aiohttp import web

from appliance.access_config import PrincipalSettings
from appliance.api.caller import Caller
from appliance.api.captured import CaptureSink
from appliance.api.evidence import Evidence
from appliance.api.parting import Parting
from appliance.clock import Clock
from appliance.config import RequestLimits
from appliance.models.router import Router
from appliance.responses.store import ResponseStore
from appliance.security.limit_queue import LimitQueue
from appliance.security.limits import PrincipalLimits


class Document(Protocol):
    """What the API says of itself."""

    @property
    def body(self) -> bytes: ...


STARTED: Final = web.AppKey("started", int)
ROUTER: Final = web.AppKey("router", Router)
# Asked anew by every request, because a reload may change them.
LIMITS: Final = web.AppKey[Callable[[], RequestLimits]]("limits")
PRINCIPAL_LIMITS: Final = web.AppKey("principal_limits", PrincipalLimits)
# Where requests wait for limits that would refuse them now.
LIMIT_QUEUE: Final = web.AppKey("limit_queue", LimitQueue)
# The wall clock, for the limits.
NOW: Final = web.AppKey[Clock]("now")
# Where prompts and answers are captured; None is nowhere.
CAPTURE: Final = web.AppKey[CaptureSink | None]("capture")
# Draws a seed for a request that has none, so that its answer can be had again.
DRAW_SEED: Final = web.AppKey[Callable[[], int]]("draw_seed")
# Where responses are kept; None is nowhere.
RESPONSES: Final = web.AppKey[ResponseStore | None]("responses")
# Whether this run comes to its end.
PARTING: Final = web.AppKey("parting", Parting)
# Which roles may call a handler.
ROLES: Final = web.AppKey[Mapping[Any, frozenset[str]]]("roles")
# What GET /openapi.json answers.
DOCUMENT: Final = web.AppKey[Document]("document")
EVIDENCE: Final = web.RequestKey("evidence", Evidence)
CALLER: Final = web.RequestKey[Caller]("caller")
# What the answer's head gets besides its own, whoever makes it.
ANSWER_HEADERS: Final = web.RequestKey[dict[str, str]]("answer_headers")


def settings_of(http: web.Request) -> PrincipalSettings:
    """What the caller may do."""
    return http[CALLER].settings
