"""GET /livez and GET /readyz: no key, no model names."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from appliance.api.keys import ROUTER
from appliance.models.snapshot import InstanceState

# As soon as all have settled: STOPPED is what was unloaded since.
_SERVED: Final = (InstanceState.READY, InstanceState.DRAINING, InstanceState.STOPPED)


async def livez(http: web.Request) -> web.StreamResponse:
    """200 while the daemon answers at all."""
    return web.json_response({"status": "ok"})


async def readyz(http: web.Request) -> web.StreamResponse:
    """200 once every preloaded model is ready; 503 with Retry-After before, while one has failed, and in a drain.

    One that was unloaded on purpose is as good as ready: the next request loads it.
    """
    router = http.app[ROUTER]
    if router.draining:
        return web.json_response({"status": "draining"}, status=503, headers={"Retry-After": "30"})
    snapshots = router.snapshots()
    states = [snapshots[spec.id].state for spec in router.specs() if spec.preload]
    if all(state in _SERVED for state in states) and router.settled:
        return web.json_response({"status": "ok"})
    status = "failed" if InstanceState.FAILED in states else "starting"
    return web.json_response({"status": status}, status=503, headers={"Retry-After": "1"})
