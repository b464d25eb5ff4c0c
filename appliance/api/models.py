"""GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from appliance.api.body import json_answer
from appliance.api.keys import ROUTER, STARTED
from appliance.api.openai_schema import ModelList, ModelMeta, ModelObject
from appliance.api.operation import Operation
from appliance.api.request_fields import permitted_names, route_of

LIST_MODELS: Final = Operation(summary="Every model that the caller may use, loaded or not.", answer=ModelList)
GET_MODEL: Final = Operation(
    summary="One model by id or alias; of an alias, the version that the caller gets.",
    answer=ModelObject,
    codes=("model_not_found",),
)


async def list_models(http: web.Request) -> web.StreamResponse:
    """Every model that the caller may use, loaded or not; then the aliases that have an entry of their own."""
    return json_answer(ModelList(data=[_object(http, name) for name in permitted_names(http)]))


async def get_model(http: web.Request) -> web.StreamResponse:
    """One model by id or alias; of an alias, the version that the caller gets."""
    return json_answer(_object(http, http.match_info["model"]))


def _object(http: web.Request, name: str) -> ModelObject:
    route, router = route_of(http, name), http.app[ROUTER]
    model = router.registry.served(route.models[0])
    spec, snapshot = model.spec, model.snapshot()
    own = name in router.registry.file.aliases
    info = snapshot.info
    busy = snapshot.host_seconds + snapshot.device_seconds
    return ModelObject(
        id=name if own else spec.id,
        created=http.app[STARTED],
        aliases=() if own else spec.aliases,
        meta=ModelMeta(
            state=snapshot.state.value,
            n_ctx=info.n_ctx if info else snapshot.n_ctx,
            n_ctx_train=info.n_ctx_train if info else None,
            n_params=info.parameters if info else None,
            size=info.size_bytes if info else None,
            step_ms=round(1000 * busy / snapshot.steps, 3) if snapshot.steps else None,
            host_share=round(snapshot.host_seconds / busy, 3) if busy else None,
            preemptions=snapshot.preemptions,
            kind=info.kind if info else None,
            n_embd=info.embedding_length if info and info.kind == "embedding" else None,
        ),
    )
