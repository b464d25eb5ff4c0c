"""Schemas that no finite value can be of, because each value would have another one inside of it. Pure.

llguidance takes some of them, and the answer would go on until its last token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

_MISSING: Final = object()
# Each round settles references that lead to settled ones. One that takes more is taken for fine.
_ROUNDS_MAX: Final = 64
_REFERENCES_MAX: Final = 2_000


def is_endless(schema: Any) -> bool:
    """Whether every value of it is endless. Only what is plain is found; references of other schemas are not followed.

    schema: of a nesting that Python can follow.
    """
    reached = _references(schema)
    if not reached or len(reached) > _REFERENCES_MAX:
        return False
    finite: set[str] = set()
    for _ in range(_ROUNDS_MAX):
        settled = {name for name in reached - finite if _is_finite(_resolve(schema, name), finite)}
        if not settled:
            return not _is_finite(schema, finite)
        finite |= settled
    return False


def _references(schema: Any) -> set[str]:
    found: set[str] = set()
    to_do = [schema]
    while to_do:
        node = to_do.pop()
        if isinstance(node, dict):
            if isinstance(name := node.get("$ref"), str):
                found.add(name)
            to_do += node.values()
        elif isinstance(node, list):
            to_do += node
    return found


def _resolve(schema: Any, reference: str) -> Any:
    """What a JSON pointer of this document leads to. What cannot be found is somebody else's to refuse."""
    path, separator, pointer = reference.partition("#")
    if path or not separator or (pointer and not pointer.startswith("/")):
        return _MISSING
    node = schema
    for part in unquote(pointer).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            node = node.get(key, _MISSING)
        elif isinstance(node, list) and key.isdecimal() and int(key[:9]) < len(node):
            node = node[int(key[:9])]
        else:
            return _MISSING
    return node


def _is_finite(node: Any, finite: set[str]) -> bool:
    """Whether a value of it can be finite, where those of the references in `finite` can."""
    if not isinstance(node, dict):
        return True
    reference = node.get("$ref")
    if isinstance(reference, str) and reference not in finite:
        return False
    choices = (node.get(key) for key in ("anyOf", "oneOf"))
    return all(_is_finite(one, finite) for one in _needed(node)) and all(
        any(_is_finite(one, finite) for one in choice) for choice in choices if isinstance(choice, list) and choice
    )


def _needed(node: dict[str, Any]) -> Iterator[Any]:
    """The schemas that a value of `node` has a value of inside of it, or is one of."""
    if isinstance(every := node.get("allOf"), list):
        yield from every
    if node.get("type") == "object":
        required, properties = node.get("required"), node.get("properties")
        if isinstance(required, list) and isinstance(properties, dict):
            yield from (properties[name] for name in required if isinstance(name, str) and name in properties)
    if node.get("type") == "array" and isinstance(least := node.get("minItems"), int) and least > 0:
        first = node.get("prefixItems")
        if isinstance(first, list) and first:
            yield from first[:least]
        else:
            yield node.get("items")
