"""GET /livez and GET /readyz: no key, no model names."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from aiohttp import web
from msgspec import Struct

from appliance.api.keys import ROUTER
from appliance.api.operation import Operation
from appliance.models.snapshot import InstanceState

# As soon as all have settled: STOPPED is what was unloaded since.
_SERVED: Final = (InstanceState.READY, InstanceState.DRAINING, InstanceState.STOPPED)


Status = Literal["ok", "starting", "failed", "draining"]


class Health(Struct, frozen=True):
    """How it is with the appliance as a whole; also of the 503."""

    status: Status


LIVEZ: Final = Operation(summary="200 while the daemon answers at all.", answer=Health, public=True)
READYZ: Final = Operation(summary="200 once every preloaded model is ready.", answer=Health, public=True, unready=True)


async def livez(http: web.Request) -> web.StreamResponse:
    """200 while the daemon answers at all."""
    return _json("ok")


async def readyz(http: web.Request) -> web.StreamResponse:
    """200 once every preloaded model is ready; 503 with Retry-After before, while one has failed, and in a drain.

    One that was unloaded on purpose is as good as ready: the next request loads it.
    """
    router = http.app[ROUTER]
    if router.draining:
        return _json("draining", retry_after=30)
    snapshots = router.snapshots()
    states = [snapshots[spec.id].state for spec in router.specs() if spec.preload]
    if all(state in _SERVED for state in states) and router.settled:
        return _json("ok")
    return _json("failed" if InstanceState.FAILED in states else "starting", retry_after=1)


def _json(status: Status, retry_after: int | None = None) -> web.Response:
    body = msgspec.json.encode(Health(status))
    if retry_after is None:
        return web.Response(body=body, content_type="application/json", charset="utf-8")
    headers = {"Retry-After": str(retry_after)}
    return web.Response(status=503, body=body, content_type="application/json", charset="utf-8", headers=headers)
