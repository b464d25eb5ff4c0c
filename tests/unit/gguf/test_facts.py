"""appliance.gguf.facts"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import pytest

from appliance.errors import GgufError
from appliance.gguf.facts import ModelFacts, facts_of
from appliance.gguf.header import read_header
from tests.models.llama_file import CHAT_TEMPLATE
from tests.models.pooled import Pooling, build_bert, build_causal

DEMO = Path("appliance/demo/demo-chat-q8_0.gguf")


def facts(path: Path) -> ModelFacts:
    with path.open("rb") as file:
        return facts_of(read_header(file))


def test_the_demo_model() -> None:
    found = facts(DEMO)
    assert (found.architecture, found.quantisation, found.license) == ("qwen2", "Q8_0", "demo only")
    assert (found.context_length, found.embedding_length, found.vocabulary) == (2048, 256, 4096)
    assert [(layer.heads, layer.kv_heads) for layer in found.layers] == [(4, 2)] * 5
    assert (found.key_length, found.value_length) == (64, 64)
    assert found.weight_bytes == found.input_bytes + found.output_bytes + sum(x.weight_bytes for x in found.layers)
    # The rest of the file is its header.
    assert DEMO.stat().st_size - found.weight_bytes < 200_000
    assert (found.recurrent, found.sliding_window, found.experts, found.split) == (False, 0, 0, None)


def test_a_template_is_known_by_its_hash(recite_gguf: Path) -> None:
    found = facts(recite_gguf)
    assert found.chat_template == CHAT_TEMPLATE
    assert found.chat_template_sha256 == hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()


@dataclass
class Odd:
    """A file of one tensor with chosen metadata; a value of None leaves a key out."""

    path: Path
    layers: int = 2
    more: dict[str, object] = field(default_factory=dict)

    def facts(self, **more: object) -> ModelFacts:
        writer = gguf.GGUFWriter(str(self.path), "odd")
        writer.add_block_count(self.layers)
        for key, value in more.items():
            key = key.replace("__", ".")
            match value:
                case str():
                    writer.add_string(key, value)
                case int():
                    writer.add_uint32(key, value)
                case list():
                    writer.add_array(key, value)
        writer.add_tensor("blk.1.ffn.weight", np.zeros((2, 32), np.float32))
        writer.add_tensor("blk.7.ffn.weight", np.zeros((2, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return facts(self.path)


@pytest.fixture
def odd(tmp_path: Path) -> Odd:
    return Odd(tmp_path / "odd.gguf")


def test_a_number_for_each_layer_or_one_for_all(odd: Odd) -> None:
    each = odd.facts(odd__attention__head_count=[8, 4], odd__attention__head_count_kv=[2, 0], odd__embedding_length=64)
    assert [(layer.heads, layer.kv_heads) for layer in each.layers] == [(8, 2), (4, 0)]
    assert each.key_length == 8
    same = odd.facts(odd__attention__head_count=8)
    assert [(layer.heads, layer.kv_heads) for layer in same.layers] == [(8, 8)] * 2
    wrong = odd.facts(odd__attention__head_count=[8, 4, 2])
    assert [(layer.heads, layer.kv_heads) for layer in wrong.layers] == [(0, 0)] * 2


def test_weights_are_counted_by_layer_and_the_quantisation_by_bytes(odd: Odd) -> None:
    found = odd.facts()
    assert [layer.weight_bytes for layer in found.layers] == [0, 256]
    assert (found.weight_bytes, found.quantisation, found.vocabulary) == (512, "F32", 0)


def test_what_is_of_another_type_counts_as_missing(odd: Odd) -> None:
    found = odd.facts(odd__context_length="many", general__license=7)
    assert (found.context_length, found.license) == (0, None)


def test_one_of_several_files(odd: Odd) -> None:
    assert odd.facts(split__no=1, split__count=3).split == (1, 3)
    assert odd.facts(split__no=0, split__count=1).split is None
    with pytest.raises(GgufError, match="part 4 of 3"):
        odd.facts(split__no=3, split__count=3)


def test_too_much_is_refused(odd: Odd) -> None:
    with pytest.raises(GgufError, match="chat template is longer"):
        odd.facts(tokenizer__chat_template="x" * 70_000)
    odd.layers = 100_000
    with pytest.raises(GgufError, match="100000 layers"):
        odd.facts()


@pytest.mark.parametrize(
    ("pooling", "kind"), [("mean", "embedding"), ("cls", "embedding"), ("rank", "rerank"), (None, "embedding")]
)
def test_what_an_encoder_is_for(tmp_path: Path, pooling: Pooling | None, kind: str) -> None:
    build_bert(tmp_path / "bert.gguf", pooling)
    found = facts(tmp_path / "bert.gguf")
    assert (found.kind, found.pooling, found.causal) == (kind, pooling, False)


def test_what_a_causal_model_is_for(tmp_path: Path) -> None:
    build_causal(tmp_path / "last.gguf", "last")
    build_causal(tmp_path / "chat.gguf", None)
    last, chat = facts(tmp_path / "last.gguf"), facts(tmp_path / "chat.gguf")
    assert (last.kind, last.pooling, last.causal) == ("embedding", "last", True)
    assert (chat.kind, chat.pooling) == ("chat", None)
