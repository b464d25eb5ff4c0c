"""What a Dify operator needs beside a client's bundle."""

from __future__ import annotations

from appliance.access_config import MAIN_LISTENER
from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused
from appliance.security.certificate_names import server_names_of
from appliance.security.client_bundle import is_client
from appliance.security.dify_bundle import DifyModel, Endpoint, dify_files
from appliance.security.stored_pair import certificate_of


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
    models = [*_aliases(call), *(DifyModel.of(spec, info) for spec, info in call.site.premises.models())]
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


def _aliases(call: Call) -> list[DifyModel]:
    """Those that have an entry of their own, with the context that all have who may answer for them."""
    if call.site.router is None:
        return []
    known = {spec.id: DifyModel.of(spec, info) for spec, info in call.site.premises.models()}
    return [
        DifyModel.narrowest(alias, [known[model] for model in (*spec.versions, *spec.fallback.models)])
        for alias, spec in call.site.router.registry.file.aliases.items()
    ]
