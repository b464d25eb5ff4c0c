"""What a changed models.yaml means for the models that are served. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import fields

from appliance.types import ModelSpec
from appliance.upstream_spec import ServedModel

# What counts without a new worker. Every other field is the worker's.
AT_ONCE: Final = frozenset({"aliases", "preload", "pinned", "ttl", "group", "sampling"})

Action = Literal["add", "remove", "adjust", "replace"]


class ModelChange(Struct, frozen=True, kw_only=True):
    """What becomes of one model. adjust: without a new worker. replace: another one takes its place, without a gap.

    what: the keys that have changed, and `file` where another file lies at the path than was loaded.
    """

    model: str
    action: Action
    what: tuple[str, ...] = ()


def plan_models(
    before: Sequence[ServedModel], after: Sequence[ServedModel], files: Collection[str] = ()
) -> tuple[ModelChange, ...]:
    """Those that change, in the order of `after`, and what goes at the end.

    files: ids of models at whose path another file lies than was loaded.
    """
    known = {spec.id: spec for spec in before}
    changes = [_change(known.get(spec.id), spec, spec.id in files) for spec in after]
    gone = known.keys() - {spec.id for spec in after}
    removed = [ModelChange(model=model, action="remove") for model in known if model in gone]
    return (*(change for change in changes if change is not None), *removed)


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
