"""Names of models and of their files. Pure."""

from __future__ import annotations

import re
from typing import Final

from appliance.errors import ChangeRefused, GgufError
from appliance.gguf import split
from appliance.gguf.split import SUFFIX, SplitName
from appliance.safe_text import safe_text

# Nothing that a shell, a file system or a terminal could take for something else.
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


def check_name(name: str, what: str) -> str:
    """The name. Raises ChangeRefused; `what` says whose it is."""
    if not re.fullmatch(NAME, name):
        raise ChangeRefused(
            "invalid",
            f"{safe_text(name)!r} cannot be {what}: it may have 128 letters, digits, '.', '_' and '-', and begins with "
            "a letter or a digit; choose another name",
        )
    return name


def split_name(file: str) -> SplitName | None:
    """As `gguf.split` has it. Raises ChangeRefused."""
    try:
        return split.split_name(file)
    except GgufError as error:
        raise ChangeRefused("invalid", f"{safe_text(file)} is refused: {error}") from None


def model_name(file: str) -> str:
    """What a model is called by default: its file's name without what every file's has."""
    found = split_name(file)
    return file.removesuffix(SUFFIX) if found is None else found.stem
