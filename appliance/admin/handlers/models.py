"""Imported models: what there is, import, quantise, verify, remove."""

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
from appliance.gguf.quantised import smaller_types, tensor_types
from appliance.model_store.importing import ImportRequest
from appliance.model_store.quantizing import QuantizeRequest
from appliance.placement.fit_table import FitRow, fit_table
from appliance.types import ModelSpec


class Import(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """path: absolute, on the appliance's host: a GGUF file, any part of a split one, or a folder with one model.

    sha256: hex. signature: base64, Ed25519 over the SHA256SUMS of the model's files.
    """

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    name: Annotated[str, Meta(max_length=256)] | None = None
    sha256: Annotated[str, Meta(max_length=64)] | None = None
    signature: Annotated[str, Meta(max_length=256)] | None = None


class Quantize(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """to: a type's name, as `q4_k_m`. name: of the new model; default: the old one's with the type.

    requantize: although the weights are quantised already. threads: default: the physical cores but one.
    """

    to: Annotated[str, Meta(max_length=32)]
    name: Annotated[str, Meta(max_length=256)] | None = None
    requantize: bool = False
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None


class Remove(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """quarantined: not the imported model of this name, but the one in quarantine. reason: for the audit log."""

    quarantined: bool = False
    reason: Annotated[str, Meta(max_length=256)] = ""


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
    """One model: manifest, header, for how many users there is room now, and what it could become."""
    manifest, header, facts = await call.site.models.show(call.match["name"])
    shown = call.site.models.store.view(manifest)
    fit = await _fit(call, manifest.name, facts)
    vouched = call.site.office.config.models.require_signature
    smaller = {} if vouched else await asyncio.to_thread(smaller_types, header)
    return call.answer({**shown, "header": header_view(facts), "fit": fit, "smaller": smaller})


async def start_import(call: Call) -> Answer:
    """Begins an import; what its header or its place refuses is refused at once."""
    asked = call.parsed(Import)
    request = ImportRequest(Path(asked.path), asked.name, asked.sha256, _signature(asked.signature))
    if call.plan:
        return call.answer(await call.site.models.plan_import(request))
    return call.answer(await call.site.models.start_import(call.administrator.actor, request))


async def start_quantize(call: Call) -> Answer:
    """Begins to make a smaller model of an imported one, beside it."""
    asked = call.parsed(Quantize)
    request = QuantizeRequest(
        call.match["name"], asked.to, asked.name, asked.requantize, "auto" if asked.threads is None else asked.threads
    )
    if not call.plan:
        return call.answer(await call.site.models.start_quantize(call.administrator.actor, request))
    plan = await call.site.models.plan_quantize(request)
    return call.answer(
        {
            "name": plan.name,
            "from": plan.source.name,
            "quantisation": plan.to.name,
            "bytes": plan.bytes,
            "bytes_before": plan.source.bytes,
            "tensor_types": tensor_types(plan.header),
            "fit": await _fit(call, plan.name, plan.facts),
        }
    )


async def start_verify(call: Call) -> Answer:
    """Begins to hash all files of a model again."""
    return call.answer(await call.site.models.start_verify(call.administrator.actor, call.match["name"]))


async def remove(call: Call) -> Answer:
    """Takes a model away, unless it is being served."""
    name, asked = call.match["name"], call.parsed(Remove)
    quarantined = asked.quarantined
    keeper = call.site.models
    if not quarantined and (used := call.site.premises.models_in_use(keeper.store.folder / name)):
        raise ChangeRefused("conflict", f"{name!r} is loaded as {', '.join(used)}; take it out of service first")
    await keeper.remove(call.administrator.actor, name, quarantined=quarantined, why=asked.reason, plan=call.plan)
    return call.answer({"name": name, "quarantined": quarantined})


async def job(call: Call) -> Answer:
    """How far a piece of work is."""
    return call.answer(call.site.models.jobs.find(call.match["id"]).view())


async def cancel(call: Call) -> Answer:
    """Ends one; nothing of a model that it was making is left."""
    found = call.site.models.jobs.find(call.match["id"])
    found.cancel()
    return call.answer(found.view())


async def _fit(call: Call, name: str, facts: ModelFacts) -> list[FitRow] | None:
    """For how many users at which context there is room now; None where no daemon can tell, or users have no cache."""
    if facts.kind != "chat":
        return None
    memory = None if call.site.router is None else call.site.router.registry.memory()
    if memory is None:
        return None
    return await asyncio.to_thread(fit_table, facts, ModelSpec(id=name, path=name), memory)


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
