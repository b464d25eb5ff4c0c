"""appliance.models.models_plan"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import fields

from appliance.alias_spec import AliasSpec, FallbackSpec, ModelsFile
from appliance.models.models_plan import AT_ONCE, ModelChange, plan_models
from appliance.types import ModelSpec, SamplingParams

A, B = ModelSpec(id="a", path="/a.gguf"), ModelSpec(id="b", path="/b.gguf")


@dataclass(frozen=True)
class Case:
    after: tuple[ModelSpec, ...]
    changes: tuple[ModelChange, ...]
    files: tuple[str, ...] = ()


def changed(**fields: object) -> ModelSpec:
    return ModelSpec(id="a", path="/a.gguf", **fields)  # type: ignore[arg-type]


CASES = {
    "nothing": Case((A, B), ()),
    "another order": Case((B, A), ()),
    "one more": Case((A, ModelSpec(id="c", path="/c"), B), (ModelChange(model="c", action="add"),)),
    "one less": Case((B,), (ModelChange(model="a", action="remove"),)),
    "another name": Case(
        (ModelSpec(id="c", path="/a.gguf"), B),
        (ModelChange(model="c", action="add"), ModelChange(model="a", action="remove")),
    ),
    "what counts at once": Case(
        (changed(aliases=("x",), ttl=5.0, sampling=SamplingParams(top_k=1)), B),
        (ModelChange(model="a", action="adjust", what=("aliases", "sampling", "ttl")),),
    ),
    "what is the worker's": Case(
        (changed(n_ctx=4096, pinned=True), B),
        (ModelChange(model="a", action="replace", what=("n_ctx", "pinned")),),
    ),
    "another file": Case((A, B), (ModelChange(model="b", action="replace", what=("file",)),), files=("b",)),
}


@pytest.mark.parametrize("what", CASES)
def test_what_a_change_means(what: str) -> None:
    case = CASES[what]
    assert sorted(
        plan_models(ModelsFile(models=(A, B)), ModelsFile(models=case.after), case.files), key=repr
    ) == sorted(case.changes, key=repr)


def test_everything_that_counts_at_once_is_a_key() -> None:
    assert {field.name for field in fields(ModelSpec)} > AT_ONCE


def test_aliases_that_come_go_or_lead_elsewhere() -> None:
    def of(**aliases: AliasSpec) -> ModelsFile:
        return ModelsFile(models=(A, B), aliases=aliases)

    one, other = AliasSpec(versions={"a": 1}), AliasSpec(versions={"b": 1}, fallback=FallbackSpec(models=("a",)))
    changes = plan_models(of(gone=one, same=one, moved=one), of(came=one, same=one, moved=other))
    assert {(change.model, change.action, change.what) for change in changes} == {
        ("gone", "route", ("removed",)),
        ("came", "route", ("added",)),
        ("moved", "route", ("versions", "fallback")),
    }
