"""GET /livez and GET /readyz: no key, no model names."""

from __future__ import annotations

from aiohttp import web

from appliance.api.keys import ROUTER
from appliance.models.instance import InstanceState


async def livez(http: web.Request) -> web.StreamResponse:
    """200 while the daemon answers at all."""
    return web.json_response({"status": "ok"})


async def readyz(http: web.Request) -> web.StreamResponse:
    """200 once every preloaded model is ready; 503 with Retry-After before, and while one has failed."""
    router = http.app[ROUTER]
    snapshots = router.snapshots()
    states = [snapshots[spec.id].state for spec in router.specs() if spec.preload]
    if all(state is InstanceState.READY for state in states):
        return web.json_response({"status": "ok"})
    status = "failed" if InstanceState.FAILED in states else "starting"
    return web.json_response({"status": status}, status=503, headers={"Retry-After": "1"})
