"""What handlers find on the application and on a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from appliance.access_config import PrincipalSettings
from appliance.api.evidence import Evidence
from appliance.config import RequestLimits
from appliance.models.router import Router

STARTED: Final = web.AppKey("started", int)
ROUTER: Final = web.AppKey("router", Router)
LIMITS: Final = web.AppKey("limits", RequestLimits)
PRINCIPALS: Final = web.AppKey[Mapping[str, PrincipalSettings]]("principals")
EVIDENCE: Final = web.RequestKey("evidence", Evidence)
