"""appliance.gguf.file_types"""

from __future__ import annotations

import pytest
from gguf.constants import LlamaFileType

from appliance.errors import GgufError
from appliance.gguf.file_types import FILE_TYPES, KNOWN, FileType, file_type


def test_the_names_of_file_types_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    theirs.pop(int(LlamaFileType.GUESSED))
    assert {kind: name.removesuffix("_MOE") for kind, name in theirs.items()} == FILE_TYPES


def test_a_type_is_named_in_either_case_and_in_short() -> None:
    assert file_type("q4_k_m") == file_type("Q4_K_M") == file_type("q4_K") == FileType("Q4_K_M", 15, "Q4_K")
    for name in KNOWN.split(", "):
        assert file_type(name).name.lower() == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("iq2_xxs", "iq2_xxs needs an importance matrix"),
        ("Q2_K_S", "q2_k_s needs an importance matrix"),
        ("q4", "'q4' is no type that a model can be quantised to; there are f16, bf16, q8_0, "),
        ("f32", "'f32' is no type"),
        ("\x1b[0m", "x1b[0m' is no type"),
        ("", "'' is no type"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_can(text: str, reason: str) -> None:
    with pytest.raises(GgufError) as caught:
        file_type(text)
    assert reason in str(caught.value)
