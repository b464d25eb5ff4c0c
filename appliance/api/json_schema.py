"""JSON Schemas of the structs that bodies are read into and answers are written from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

Schema = dict[str, Any]
REF: Final = "#/components/schemas/{name}"


def schemas(types: Iterable[Any], *, written: bool) -> tuple[list[Schema], dict[str, Schema]]:
    """(one schema a type, what they refer to by name). written: they are of answers, which have all of their fields.

    No two structs may have one name.
    """
    types = list(types)
    found, components = msgspec.json.schema_components(types, ref_template=REF)
    if written:
        for kind in _structs(inspect.multi_type_info(types)):
            _as_written(kind, components[kind.cls.__name__])
    return list(found), components


def _as_written(kind: inspect.StructType, schema: Schema) -> None:
    """A field is left out where it is unset; a default is of no interest to who reads it."""
    if not kind.cls.__struct_config__.omit_defaults:
        fields = [item.encode_name for item in kind.fields if item.required or _has_default(item)]
        schema["required"] = fields if kind.tag_field is None else [kind.tag_field, *fields]
    for each in schema["properties"].values():
        each.pop("default", None)


def _has_default(item: inspect.Field) -> bool:
    return item.default is not msgspec.NODEFAULT or item.default_factory is not msgspec.NODEFAULT


def _structs(types: Iterable[inspect.Type]) -> Iterator[inspect.StructType]:
    """Those in `types`, however deep; one may come several times."""
    for kind in types:
        match kind:
            case inspect.StructType():
                yield kind
                yield from _structs(item.type for item in kind.fields)
            case inspect.Metadata():
                yield from _structs([kind.type])
            case inspect.UnionType():
                yield from _structs(kind.types)
            case inspect.ListType() | inspect.VarTupleType():
                yield from _structs([kind.item_type])
            case inspect.DictType():
                yield from _structs([kind.value_type])
