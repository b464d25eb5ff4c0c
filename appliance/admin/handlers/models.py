"""Imported models: what there is, import, verify, remove."""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict

from appliance.admin.route import Answer, Call
from appliance.errors import ChangeRefused
from appliance.gguf.facts import ModelFacts
from appliance.model_store.importing import ImportRequest
from appliance.placement.fit_table import fit_table
from appliance.types import ModelSpec


class Import(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """path: absolute, on the appliance's host: a GGUF file, any part of a split one, or a folder with one model.

    sha256: hex. signature: base64, Ed25519 over the SHA256SUMS of the model's files.
    """

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    name: Annotated[str, Meta(max_length=256)] | None = None
    sha256: Annotated[str, Meta(max_length=64)] | None = None
    signature: Annotated[str, Meta(max_length=256)] | None = None


class Remove(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """quarantined: not the imported model of this name, but the one in quarantine."""

    quarantined: bool = False


async def list_all(call: Call) -> Answer:
    """Every imported model, what is in quarantine, and what is under way."""
    manifests, quarantined = await call.site.models.models()
    return call.answer(
        {
            "models": [call.site.models.store.view(manifest) for manifest in manifests],
            "quarantined": quarantined,
            "jobs": call.site.models.jobs.views(),
        }
    )


async def show(call: Call) -> Answer:
    """One model: its manifest, what its header says, and for how many users there is room now."""
    manifest, facts = await call.site.models.show(call.match["name"])
    shown = call.site.models.store.view(manifest)
    memory = None if call.site.router is None else call.site.router.registry.memory()
    fit = None
    if memory is not None:
        spec = ModelSpec(id=manifest.name, path=str(shown["path"]))
        fit = await asyncio.to_thread(fit_table, facts, spec, memory)
    return call.answer({**shown, "header": header_view(facts), "fit": fit})


async def start_import(call: Call) -> Answer:
    """Begins an import; what its header or its place refuses is refused at once."""
    asked = call.parsed(Import)
    request = ImportRequest(Path(asked.path), asked.name, asked.sha256, _signature(asked.signature))
    if call.plan:
        return call.answer(await call.site.models.plan_import(request))
    return call.answer(await call.site.models.start_import(call.administrator.actor, request))


async def start_verify(call: Call) -> Answer:
    """Begins to hash all files of a model again."""
    return call.answer(await call.site.models.start_verify(call.administrator.actor, call.match["name"]))


async def remove(call: Call) -> Answer:
    """Takes a model away, unless it is being served."""
    name, quarantined = call.match["name"], call.parsed(Remove).quarantined
    keeper = call.site.models
    if not quarantined and (used := call.site.premises.models_in_use(keeper.store.folder / name)):
        raise ChangeRefused("conflict", f"{name!r} is loaded as {', '.join(used)}; take it out of service first")
    await keeper.remove(call.administrator.actor, name, quarantined=quarantined, plan=call.plan)
    return call.answer({"name": name, "quarantined": quarantined})


async def job(call: Call) -> Answer:
    """How far an import or a verification is."""
    return call.answer(call.site.models.jobs.find(call.match["id"]).view())


async def cancel(call: Call) -> Answer:
    """Ends one; nothing of an import is left."""
    found = call.site.models.jobs.find(call.match["id"])
    found.cancel()
    return call.answer(found.view())


def header_view(facts: ModelFacts) -> dict[str, object]:
    """What a header says, for people: not the template itself, and of the layers how many."""
    shown = {name: value for name, value in asdict(facts).items() if name not in ("chat_template", "layers", "split")}
    template = facts.chat_template
    return {**shown, "layers": len(facts.layers), "chat_template_chars": None if template is None else len(template)}


def _signature(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ChangeRefused("invalid", "signature: expected base64") from None
