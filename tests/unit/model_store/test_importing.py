"""appliance.model_store.importing"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import ChangeRefused
from appliance.model_store.hashes import SIGNATURE, SUMS, sums_text
from appliance.model_store.importing import Expected, ImportRequest, compare, due, expect
from appliance.model_store.signing import Signer
from appliance.model_store.source import open_source
from tests.models.random_weights import build_random
from tests.unit.model_store.conftest import NOW, signer

KEY = Ed25519PrivateKey.generate()
HASHES = {"small.gguf": "ab" * 32}


def expected(request: ImportRequest, *signers: Signer, require: bool = False) -> Expected:
    with open_source(request.path) as source:
        return expect(request, source, signers, require_signature=require)


def refusal(request: ImportRequest, *signers: Signer, require: bool = False) -> str:
    with pytest.raises(ChangeRefused) as caught:
        expected(request, *signers, require=require)
    return caught.value.message


def test_a_file_with_nothing_said(source: Path) -> None:
    assert expected(ImportRequest(source)) == Expected("small", {}, None, None)
    assert expected(ImportRequest(source, name="other")).name == "other"
    assert "cannot be a model's name" in refusal(ImportRequest(source, name="../x"))


def test_a_hash_that_must_come_out(source: Path) -> None:
    found = expected(ImportRequest(source, sha256="AB" * 32))
    assert compare(found, HASHES, ()) is None
    with pytest.raises(ChangeRefused, match=f"small.gguf has the SHA-256 {'cd' * 32}, not {'ab' * 32}"):
        compare(found, {"small.gguf": "cd" * 32}, ())


def test_one_hash_does_not_do_for_several_files(tmp_path: Path) -> None:
    build_random(tmp_path / "big.gguf", tensors_per_file=6)
    assert "put them into SHA256SUMS" in refusal(ImportRequest(tmp_path, sha256="ab" * 32))


def test_a_folder_that_was_packed(source: Path) -> None:
    text, folder = sums_text(HASHES), source.parent
    (folder / SUMS).write_bytes(text)
    assert expected(ImportRequest(folder)).hashes == HASHES
    assert "not the one that SHA256SUMS" in refusal(ImportRequest(folder, sha256="cd" * 32))
    (folder / SIGNATURE).write_bytes(KEY.sign(text))
    found = expected(ImportRequest(folder), signer(KEY))
    assert found.signer == signer(KEY).id
    assert compare(found, HASHES, ()) == found.signer
    assert "names no key" in refusal(ImportRequest(folder))
    (folder / SUMS).write_bytes(text.replace(b"ab", b"ac", 1))
    assert "or the list was changed" in refusal(ImportRequest(folder), signer(KEY))


def test_a_signature_beside_a_file_is_checked_once_its_hash_is_known(source: Path) -> None:
    request = ImportRequest(source, signature=KEY.sign(sums_text(HASHES)))
    found = expected(request, signer(KEY))
    assert found.signer is None
    assert compare(found, HASHES, [signer(KEY)]) == signer(KEY).id
    with pytest.raises(ChangeRefused, match="not by a key"):
        compare(found, {"small.gguf": "cd" * 32}, [signer(KEY)])
    assert "names no key" in refusal(request), "nothing is copied for nothing"


def test_where_signatures_are_asked_for(source: Path) -> None:
    assert "this model is not signed; `appliance models pack" in refusal(
        ImportRequest(source), signer(KEY), require=True
    )


def test_when_a_model_is_verified_again() -> None:
    week = timedelta(days=7)
    assert due(NOW, NOW + week, 7)
    assert not due(NOW, NOW + week - timedelta(seconds=1), 7)
    assert due(NOW, NOW - timedelta(seconds=1), 7), "the clock was set back"
