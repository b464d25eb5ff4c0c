"""Names of models and of their files. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from appliance.errors import ChangeRefused
from appliance.safe_text import safe_text

# Nothing that a shell, a file system or a terminal could take for something else.
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
PARTS_MAX: Final = 999
SUFFIX: Final = ".gguf"
_SPLIT: Final = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


class SplitName(NamedTuple):
    """What the name of one file of several says. number: from 1, of `parts`."""

    stem: str
    number: int
    parts: int


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
    """None for a file that is a model by itself. Raises ChangeRefused for numbers that make no sense."""
    found = _SPLIT.fullmatch(file)
    if found is None:
        return None
    number, count = int(found["number"]), int(found["count"])
    if not 1 <= number <= count <= PARTS_MAX:
        raise ChangeRefused("invalid", f"{safe_text(file)}: there is no part {number} of {count}")
    return SplitName(found["stem"], number, count)


def part_names(split: SplitName) -> tuple[str, ...]:
    """Of all parts, in order, as llama.cpp looks for them."""
    return tuple(f"{split.stem}-{number:05}-of-{split.parts:05}{SUFFIX}" for number in range(1, split.parts + 1))


def model_name(file: str) -> str:
    """What a model is called by default: its file's name without what every file's has."""
    split = split_name(file)
    return file.removesuffix(SUFFIX) if split is None else split.stem
