"""appliance.model_store.packing"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import ChangeRefused
from appliance.model_store.importing import ImportRequest, expect
from appliance.model_store.packing import pack_model
from appliance.model_store.source import open_source
from tests.models.random_weights import build_random
from tests.unit.model_store.conftest import signer

KEY = Ed25519PrivateKey.generate()


def nothing(count: int) -> None:
    """Does not look."""


def test_what_is_packed_is_taken(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    build_random(tmp_path / "stick" / "big.gguf", tensors_per_file=6)
    with open_source(tmp_path / "stick") as source:
        hashes = pack_model(source, tmp_path / "packed", KEY, nothing)
    assert (tmp_path / "packed").stat().st_mode & 0o777 == 0o755
    with open_source(tmp_path / "packed") as source:
        found = expect(ImportRequest(tmp_path / "packed"), source, [signer(KEY)], require_signature=True)
    assert (found.hashes, found.signer) == (hashes, signer(KEY).id)
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {*hashes, "SHA256SUMS", "SHA256SUMS.sig"}


def test_nothing_is_left_of_one_that_fails(tmp_path: Path, source: Path) -> None:
    def interrupted(count: int) -> None:
        raise KeyboardInterrupt

    with open_source(source) as opened, pytest.raises(KeyboardInterrupt):
        pack_model(opened, tmp_path / "packed", None, interrupted)
    assert {path.name for path in tmp_path.iterdir()} == {"stick"}
    with open_source(source) as opened, pytest.raises(ChangeRefused, match="cannot be written"):
        pack_model(opened, tmp_path / "missing" / "packed", None, nothing)
    with open_source(source) as opened, pytest.raises(ChangeRefused, match="exists"):
        pack_model(opened, source.parent, None, nothing)


def test_without_a_key_there_are_hashes_alone(tmp_path: Path, source: Path) -> None:
    with open_source(source) as opened:
        pack_model(opened, tmp_path / "packed", None, nothing)
    assert not (tmp_path / "packed" / "SHA256SUMS.sig").exists()
