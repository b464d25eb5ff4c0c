"""Other keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ConfigError
from tui.keymap import read_keymap

KNOWN = {"models.load", "app.pause"}


def test_keys_are_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('[keys]\n"models.load" = "L"\n')
    assert read_keymap(path, KNOWN) == {"models.load": "L"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[keys", "keys.toml"),
        ("x = 1", "one table"),
        ('[keys]\n"models.lod" = "L"', "did you mean 'models.load'"),
        ('[keys]\n"models.load" = 3', "expected keys as a text"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_keymap(path, KNOWN)
