"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.gguf.tensor_types import TENSOR_TYPES
from appliance.model_store.manifest import Manifest, new_manifest
from appliance.model_store.signing import Signer
from appliance.model_store.source import open_source
from appliance.model_store.store import ModelStore
from tests.models.raw_gguf import ARCHITECTURE, item, model, string, tensor, u32

NOW = datetime(2026, 1, 2, tzinfo=UTC)

Put = Callable[..., Manifest]


def small_model(license: str = "apache-2.0") -> bytes:
    """A model as far as its header is concerned, in some hundred bytes."""
    return model(
        metadata=(ARCHITECTURE, item("general.license", 8, string(license))),
        tensors=(tensor("token_embd.weight", (64,)),),
        data=256,
    )


def quantisable_model(kind: int = 1) -> bytes:
    """One matrix of eight rows of 256 values, of a type by its number in TENSOR_TYPES."""
    return model(
        metadata=(ARCHITECTURE, item("general.file_type", 4, u32({1: 1, 7: 9, 8: 7}[kind]))),
        tensors=(tensor("blk.0.ffn_up.weight", (256, 8), kind),),
        data=8 * 256 * TENSOR_TYPES[kind].block_bytes // TENSOR_TYPES[kind].block_values,
    )


def signer(key: Ed25519PrivateKey, name: str = "release") -> Signer:
    return Signer.parse(name, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file to import, in a folder of its own."""
    path = tmp_path / "stick" / "small.gguf"
    path.parent.mkdir()
    path.write_bytes(small_model())
    return path


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    folder = tmp_path / "models"
    folder.mkdir()
    return ModelStore(folder)


@pytest.fixture
def put(store: ModelStore, source: Path) -> Put:
    """Imports a path, without a trial."""

    def putting(path: Path = source, name: str = "small", signature: bytes | None = None, **fields: object) -> Manifest:
        with open_source(path) as opened:
            staged = store.stage(opened, name, lambda count: None)
        known: dict[str, object] = {"signer": None, "source": str(path), "now": NOW, "trial_seconds": 0.1}
        manifest = new_manifest(name, staged.files, staged.facts, **(known | fields))  # type: ignore[arg-type]
        store.place(staged, manifest, signature)
        return manifest

    return putting
