"""GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from appliance.api.keys import ROUTER, STARTED
from appliance.api.openai_schema import ModelList, ModelMeta, ModelObject
from appliance.api.request_fields import permitted_model, permitted_models
from appliance.models.snapshot import InstanceSnapshot
from appliance.upstream_spec import ServedModel

_encoder: Final = msgspec.json.Encoder()


async def list_models(http: web.Request) -> web.StreamResponse:
    """Every model that the caller may use, loaded or not."""
    snapshots, started = http.app[ROUTER].snapshots(), http.app[STARTED]
    return _json(ModelList(data=[_object(spec, snapshots[spec.id], started) for spec in permitted_models(http)]))


async def get_model(http: web.Request) -> web.StreamResponse:
    """One model by id or alias."""
    spec = permitted_model(http, http.match_info["model"])
    return _json(_object(spec, http.app[ROUTER].snapshots()[spec.id], http.app[STARTED]))


def _object(spec: ServedModel, snapshot: InstanceSnapshot, started: int) -> ModelObject:
    info = snapshot.info
    busy = snapshot.host_seconds + snapshot.device_seconds
    return ModelObject(
        id=spec.id,
        created=started,
        aliases=spec.aliases,
        meta=ModelMeta(
            state=snapshot.state.value,
            n_ctx=info.n_ctx if info else snapshot.n_ctx,
            n_ctx_train=info.n_ctx_train if info else None,
            n_params=info.parameters if info else None,
            size=info.size_bytes if info else None,
            step_ms=round(1000 * busy / snapshot.steps, 3) if snapshot.steps else None,
            host_share=round(snapshot.host_seconds / busy, 3) if busy else None,
            preemptions=snapshot.preemptions,
        ),
    )


def _json(value: msgspec.Struct) -> web.Response:
    return web.Response(body=_encoder.encode(value), content_type="application/json", charset="utf-8")
