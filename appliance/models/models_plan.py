"""What a changed models.yaml means for the models that are served. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import fields

from appliance.alias_spec import ModelsFile
from appliance.types import ModelSpec
from appliance.upstream_spec import ServedModel

# What counts without a new worker. Every other field is the worker's.
AT_ONCE: Final = frozenset({"aliases", "preload", "pinned", "ttl", "group", "sampling"})

Action = Literal["add", "remove", "adjust", "replace", "route"]


class ModelChange(Struct, frozen=True, kw_only=True):
    """What becomes of one model. adjust: without a new worker. replace: another one takes its place, without a gap.

    route: of an alias, which leads elsewhere from now on; `added` and `removed` say that it comes or goes.
    what: the keys that have changed, and `file` where another file lies at the path than was loaded.
    """

    model: str
    action: Action
    what: tuple[str, ...] = ()


def plan_models(before: ModelsFile, after: ModelsFile, files: Collection[str] = ()) -> tuple[ModelChange, ...]:
    """Those that change, in the order of `after`; then what goes, and the aliases.

    files: ids of models at whose path another file lies than was loaded.
    """
    known = {spec.id: spec for spec in before.models}
    changes = [_change(known.get(spec.id), spec, spec.id in files) for spec in after.models]
    gone = known.keys() - {spec.id for spec in after.models}
    removed = [ModelChange(model=model, action="remove") for model in known if model in gone]
    return (*(change for change in changes if change is not None), *removed, *_route_changes(before, after))


def _route_changes(before: ModelsFile, after: ModelsFile) -> list[ModelChange]:
    """Of the aliases that have an entry of their own."""
    changes = []
    for alias in dict.fromkeys((*after.aliases, *before.aliases)):
        old, new = before.aliases.get(alias), after.aliases.get(alias)
        if old == new:
            continue
        if old is None or new is None:
            what: tuple[str, ...] = ("added" if old is None else "removed",)
        else:
            what = tuple(one.name for one in fields(new) if getattr(old, one.name) != getattr(new, one.name))
        changes.append(ModelChange(model=alias, action="route", what=what))
    return changes


def _change(before: ServedModel | None, after: ServedModel, other_file: bool) -> ModelChange | None:
    if before is None:
        return ModelChange(model=after.id, action="add")
    if type(before) is not type(after):
        return ModelChange(model=after.id, action="replace", what=("engine",))
    names = [field.name for field in fields(after)]
    what = [name for name in names if getattr(before, name) != getattr(after, name)]
    if other_file:
        what.append("file")
    if not what:
        return None
    # Servers elsewhere have no worker that would have to be loaded.
    at_once = isinstance(after, ModelSpec) and AT_ONCE.issuperset(what)
    action: Action = "adjust" if at_once else "replace"
    return ModelChange(model=after.id, action=action, what=tuple(what))
