"""GET /livez and GET /readyz: no key, no model names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from appliance.api.keys import ROUTER
from appliance.api.operation import Operation
from appliance.models.router import Readiness

_RETRY_SECONDS: Final[Mapping[Readiness, int]] = {"draining": 30, "failed": 1, "starting": 1}


class Health(Struct, frozen=True):
    """How it is with the appliance as a whole; also of the 503."""

    status: Readiness


LIVEZ: Final = Operation(summary="200 while the daemon answers at all.", answer=Health, public=True)
READYZ: Final = Operation(summary="200 once every preloaded model is ready.", answer=Health, public=True, unready=True)


async def livez(http: web.Request) -> web.StreamResponse:
    """200 while the daemon answers at all."""
    return _json("ok")


async def readyz(http: web.Request) -> web.StreamResponse:
    """200 once every preloaded model is ready; 503 with Retry-After before, while one has failed, and in a drain."""
    status = http.app[ROUTER].readiness
    return _json(status, retry_after=_RETRY_SECONDS.get(status))


def _json(status: Readiness, retry_after: int | None = None) -> web.Response:
    body = msgspec.json.encode(Health(status))
    if retry_after is None:
        return web.Response(body=body, content_type="application/json", charset="utf-8")
    headers = {"Retry-After": str(retry_after)}
    return web.Response(status=503, body=body, content_type="application/json", charset="utf-8", headers=headers)
