"""GET /livez and GET /readyz: no key, no model names."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from msgspec import Struct

from appliance.api.body import json_answer
from appliance.api.keys import ROUTER
from appliance.api.operation import Operation
from appliance.models.router import Readiness


class Health(Struct, frozen=True):
    """How it is with the appliance as a whole; also of the 503."""

    status: Readiness


LIVEZ: Final = Operation(summary="200 while the daemon answers at all.", answer=Health, public=True)
READYZ: Final = Operation(summary="200 once every preloaded model is ready.", answer=Health, public=True, unready=True)


async def livez(http: web.Request) -> web.StreamResponse:
    """200 while the daemon answers at all."""
    return json_answer(Health("ok"))


async def readyz(http: web.Request) -> web.StreamResponse:
    """200 once every preloaded model is ready; 503 with Retry-After before, while one has failed, and in a drain."""
    status = http.app[ROUTER].readiness
    if status == "ok":
        return json_answer(Health(status))
    return json_answer(Health(status), status=503, headers={"Retry-After": "30" if status == "draining" else "1"})
