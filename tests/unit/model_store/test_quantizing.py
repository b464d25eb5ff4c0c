"""appliance.model_store.quantizing"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from appliance.errors import ChangeRefused
from appliance.gguf.file_types import file_type
from appliance.model_store.hashes import sums_text
from appliance.model_store.manifest import Manifest
from appliance.model_store.quantizing import QuantizePlan, QuantizeRequest, new_name, origin_sha256, plan_quantize
from appliance.model_store.store import ModelStore
from tests.models.random_weights import build_random
from tests.unit.model_store.conftest import Put, quantisable_model


@pytest.fixture
def manifest(put: Put, source: Path) -> Manifest:
    source.write_bytes(quantisable_model())
    return put()


def plan(
    store: ModelStore, manifest: Manifest, to: str, *, require_signature: bool = False, **fields: object
) -> QuantizePlan:
    request = QuantizeRequest(manifest.name, to, **fields)  # type: ignore[arg-type]
    return plan_quantize(request, manifest, store.header(manifest)[0], require_signature=require_signature)


def refusal(store: ModelStore, manifest: Manifest, to: str, **fields: object) -> str:
    with pytest.raises(ChangeRefused) as caught:
        plan(store, manifest, to, **fields)  # type: ignore[arg-type]
    return str(caught.value)


def test_what_it_would_make(store: ModelStore, manifest: Manifest) -> None:
    found = plan(store, manifest, "q4_0")
    assert (found.name, found.file, found.to.name, found.facts.quantisation) == (
        ("small-q4_0", "small-q4_0.gguf", "Q4_0", "Q4_0")
    )
    assert found.facts.weight_bytes < found.bytes < found.bytes_max
    assert plan(store, manifest, "Q4_0", new_name="other").name == "other"


@pytest.mark.parametrize(
    ("to", "fields", "reason"),
    [
        ("q4", {}, "'q4' is no type that a model can be quantised to"),
        ("iq1_s", {}, "needs an importance matrix"),
        ("f16", {}, "small is F16, with 0.0 MiB of weights; as F16 it would have 0.0 MiB, which is no less"),
        ("q4_0", {"new_name": "../x"}, "cannot be a model's name"),
        ("q4_0", {"new_name": "x" * 128}, "cannot be a model's file"),
        ("q4_0", {"require_signature": True}, "models.require_signature is on, and nobody would have signed"),
    ],
)
def test_refusals(store: ModelStore, manifest: Manifest, to: str, fields: dict[str, object], reason: str) -> None:
    assert reason in refusal(store, manifest, to, **fields)


def test_what_has_lost_already_is_not_quantised_again_by_mistake(store: ModelStore, put: Put, source: Path) -> None:
    source.write_bytes(quantisable_model(kind=7))
    manifest = put()
    assert "has weights of Q5_1 already" in refusal(store, manifest, "q4_0")
    assert plan(store, manifest, "q4_0", requantize=True).to.name == "Q4_0"
    source.write_bytes(quantisable_model(kind=8))
    assert plan(store, put(name="other"), "q4_0").name == "other-q4_0", "of q8_0 nothing is lost"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("qwen3-8b-f16", "qwen3-8b-q4_k_m"),
        ("qwen3-8b.BF16", "qwen3-8b-q4_k_m"),
        ("qwen3-8b_Q8_0", "qwen3-8b-q4_k_m"),
        ("qwen3-8b-iq4_xs", "qwen3-8b-q4_k_m"),
        ("qwen3-8b", "qwen3-8b-q4_k_m"),
        ("f16", "f16-q4_k_m"),
    ],
)
def test_the_new_name_says_the_type(name: str, made: str) -> None:
    assert new_name(name, file_type("q4_k_m")) == made


def test_a_split_model_is_known_by_its_list_of_hashes(put: Put, tmp_path: Path) -> None:
    build_random(tmp_path / "big.gguf", tensors_per_file=20)
    manifest = put(tmp_path / "big-00001-of-00002.gguf", "big")
    assert origin_sha256(manifest) == sha256(sums_text(manifest.hashes)).hexdigest()
