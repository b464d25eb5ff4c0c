"""The keys that there are, as bindings declare them: for the help, and for a keymap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from textual.binding import Binding
from textual.dom import DOMNode

_KEY_NAMES: Final = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
    "escape": "Esc",
    "enter": "Enter",
    "tab": "Tab",
    "shift+tab": "Shift+Tab",
    "pagedown": "PgDn",
    "pageup": "PgUp",
    "home": "Home",
    "end": "End",
    "up": "Up",
    "down": "Down",
    "ctrl+f": "^f",
    "ctrl+p": "^p",
    "ctrl+c": "^c",
    "ctrl+q": "^q",
}


def binding_ids(owners: Iterable[type[DOMNode]]) -> set[str]:
    """What a keymap can name."""
    bindings = (one for owner in owners for one in owner.BINDINGS)
    return {one.id for one in bindings if isinstance(one, Binding) and one.id is not None}


def keys_of(nodes: Iterable[DOMNode], keymap: Mapping[str, str]) -> list[tuple[str, str]]:
    """Keys and what they do; each deed once, in the order of the nodes. keymap: other keys, by the id of a binding."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        # Textual applies a keymap to a copy too, each time that it looks up a key.
        declared = node._bindings.copy()
        declared.apply_keymap(keymap)
        for key, bindings in declared.key_to_bindings.items():
            for binding in bindings:
                if binding.description:
                    shown = found.setdefault(binding.description, [])
                    name = _KEY_NAMES.get(key, key)
                    if name not in shown:
                        shown.append(name)
    return [(" ".join(keys), said) for said, keys in found.items()]
