"""Other keys: a TOML file that names what a key does, and the keys that do it.

    [keys]
    "models.load" = "L"
    "app.pause" = "space,p"

The names are those of the bindings' ids; what the file does not name keeps its keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path

from appliance.errors import ConfigError


def read_keymap(path: Path, known: Collection[str]) -> dict[str, str]:
    """Keys by the id of what they do. Raises ConfigError."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    keys = found.get("keys")
    if not isinstance(keys, Mapping) or set(found) != {"keys"}:
        raise ConfigError(f"{path}: it has one table, [keys]")
    for name, value in keys.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{path}: [keys]: nothing is called {name!r}; {hint}")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f'{path}: [keys] {name}: expected keys as a text, such as "L" or "space,p"')
    return dict(keys)
