"""appliance.model_store.names"""

from __future__ import annotations

import pytest

from appliance.errors import ChangeRefused
from appliance.gguf.split import part_names
from appliance.model_store.names import check_name, model_name, split_name


@pytest.mark.parametrize("name", ["a", "Qwen3-8B-Q4_K_M", "7b.v2", "a" * 128])
def test_names_that_may_be(name: str) -> None:
    assert check_name(name, "a name") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-rf", "../x", "/etc/x", "a/b", "a b", "a\n", "ü", "a\0", "a" * 129]
)
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(ChangeRefused, match="cannot be a name"):
        check_name(name, "a name")


def test_parts_are_named_as_llama_cpp_looks_for_them() -> None:
    found = split_name("big-00002-of-00003.gguf")
    assert found == ("big", 2, 3)
    assert part_names(found) == ("big-00001-of-00003.gguf", "big-00002-of-00003.gguf", "big-00003-of-00003.gguf")
    assert model_name("big-00002-of-00003.gguf") == "big"


@pytest.mark.parametrize("file", ["big.gguf", "big-1-of-3.gguf", "big-00001-of-00003.bin"])
def test_a_model_by_itself(file: str) -> None:
    assert split_name(file) is None
    assert model_name("big.gguf") == "big"


@pytest.mark.parametrize("file", ["b-00000-of-00003.gguf", "b-00004-of-00003.gguf", "b-00001-of-01000.gguf"])
def test_parts_that_cannot_be(file: str) -> None:
    with pytest.raises(ChangeRefused, match="there is no part"):
        split_name(file)
