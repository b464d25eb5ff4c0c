"""What a Dify operator needs beside a client's bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from appliance.access_config import MAIN_LISTENER
from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused, GgufError
from appliance.gguf.facts import facts_of
from appliance.gguf.pooling import kind_of, pooling_of
from appliance.models.placer import read_model
from appliance.security.certificate_names import server_names_of
from appliance.security.client_bundle import is_client
from appliance.security.dify_bundle import DifyModel, Endpoint, dify_files
from appliance.security.stored_pair import certificate_of
from appliance.types import ModelInfo, ModelKind
from appliance.upstream_spec import ServedModel, UpstreamSpec


async def files(call: Call) -> Answer:
    """The files for client `name`: `?host=` how Dify reaches this host, `listener=`, `port=`, `sidecar=true|false`."""
    name, host = call.match["name"], call.query.get("host", "")
    if not is_client(call.office.document, name):
        raise ChangeRefused("not_found", f"there is no client {name!r}; `appliance clients add {name}` makes it")
    listeners, wanted = call.office.config.listeners, call.query.get("listener", MAIN_LISTENER)
    listener = listeners.get(wanted)
    if listener is None:
        raise ChangeRefused("not_found", f"there is no listener {wanted!r}; known: {', '.join(listeners)}")
    covered = server_names_of(certificate_of(call.office.document.server.active))
    if host.lower() not in covered:
        raise ChangeRefused(
            "invalid",
            f"the server certificate does not name {host!r}; add it to listeners.{wanted}.names and reload. "
            f"It names: {', '.join(sorted(covered))}",
        )
    own = await asyncio.to_thread(_models, call.site.premises.models())
    models = [*_aliases(call, own), *own]
    if not models:
        raise ChangeRefused("conflict", "no daemon serves models here; start it first, so that the sheet can name them")
    endpoint = Endpoint(
        host, call.number("port", call.site.premises.port(wanted) or listener.port, 65535), listener.mode
    )
    made = dify_files(
        name,
        endpoint,
        models,
        sidecar=call.query.get("sidecar", "true") == "true",
        key_grace_hours=call.office.config.api_keys.grace_hours,
    )
    return call.answer({"files": {file: text.decode() for file, text in made.items()}})


def _models(served: Sequence[tuple[ServedModel, ModelInfo | None]]) -> list[DifyModel]:
    """Blocks for a moment."""
    return [DifyModel.of(spec, info, "chat" if info is not None else _kind_in_file(spec)) for spec, info in served]


def _kind_in_file(spec: ServedModel) -> ModelKind:
    """What the header of its file says that a model is for, which has not been loaded yet."""
    if isinstance(spec, UpstreamSpec):
        return "chat"
    try:
        facts = facts_of(read_model(Path(spec.path)))
    except (GgufError, OSError):
        return "chat"
    return kind_of(pooling_of(facts.pooling, spec.pooling, facts.architecture))


def _aliases(call: Call, own: list[DifyModel]) -> list[DifyModel]:
    """Those that have an entry of their own, with the context that all have who may answer for them."""
    if call.site.router is None:
        return []
    known = {model.id: model for model in own}
    return [
        DifyModel.narrowest(alias, [known[model] for model in (*spec.versions, *spec.fallback.models)])
        for alias, spec in call.site.router.registry.file.aliases.items()
    ]
