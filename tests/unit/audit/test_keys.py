"""appliance.audit.keys, signed and seal_keys"""

from __future__ import annotations

import hashlib

import pytest
from msgspec import Struct

from appliance.audit.keys import SealKey, VerificationKey, fingerprint, is_signed
from appliance.audit.seal_keys import SealKeyChain
from appliance.audit.signed import peek_line, read_line, sign_line
from appliance.errors import StateError


class Value(Struct, frozen=True):
    name: str


def test_a_seal_key_is_its_bytes() -> None:
    key = SealKey.generate()
    again = SealKey.from_bytes(key.private_bytes)
    assert again.key_id == key.key_id == fingerprint(key.public_bytes)
    assert is_signed(key.public_bytes, again.sign(b"x"), b"x")
    assert not is_signed(key.public_bytes, again.sign(b"x"), b"y")
    assert not is_signed(b"short", again.sign(b"x"), b"x")
    with pytest.raises(ValueError):
        SealKey.from_bytes(b"short")


def test_the_verification_key_reads_back_and_its_id_gives_nothing_away() -> None:
    key = VerificationKey(v=1, founded=7, key="ab" * 32, seal_key="cd")
    assert VerificationKey.decode(key.encode()) == key
    assert key.id not in key.key
    assert key.id != hashlib.sha256(b"evolve" + bytes.fromhex(key.key)).hexdigest()[:16]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"v":1,"founded":1,"key":"abcd","seal_key":""}', b'{"v":2,"founded":1,"key":"%s","seal_key":""}'],
)
def test_another_file_is_no_verification_key(data: bytes) -> None:
    with pytest.raises(StateError, match="no verification key"):
        VerificationKey.decode(data.replace(b"%s", b"ab" * 32))


def test_signed_lines() -> None:
    key, other = SealKey.generate(), SealKey.generate()
    line = sign_line(Value("ä\n"), key)
    assert line.count(b"\n") == 1 and line.isascii()
    assert read_line(line, Value, key.public_bytes) == Value("ä\n") == peek_line(line, Value)
    assert read_line(line, Value, other.public_bytes) is None
    for broken in (b"", b"x", b"{}\tzz\n", line.replace(b"name", b"nome"), line[:-4], b"\xff\t\xff"):
        assert read_line(broken, Value, key.public_bytes) is None
    assert peek_line(b"{}", Value) is None and peek_line(b"{}\t\n", Value) is None


def test_each_seal_key_names_the_next() -> None:
    keys = [SealKey.generate() for _ in range(3)]
    chain = SealKeyChain.found(keys[0])
    chain = chain.replaced_by(keys[1], keys[0], 5).replaced_by(keys[2], keys[1], 9)
    again = SealKeyChain.decode(chain.data)
    assert (again.first.key_id, again.newest.key_id) == (keys[0].key_id, keys[2].key_id)
    for segment, key in ((1, 0), (4, 0), (5, 1), (8, 1), (9, 2), (1000, 2)):
        assert again.public_for(segment) == keys[key].public_bytes
    assert again.public_for(0) is None
    lines = chain.data.splitlines(keepends=True)
    mallory = SealKey.generate()
    forged = SealKeyChain.found(keys[0]).replaced_by(mallory, keys[0], 5).data.splitlines(keepends=True)
    for broken in (
        [lines[0], lines[2]],
        [lines[1]],
        [lines[0], lines[1], lines[1]],
        [lines[0].replace(b'"from_segment":1', b'"from_segment":2')],
        [lines[0], forged[1].replace(mallory.key_id.encode(), keys[1].key_id.encode())],
        [lines[0], b"junk\n"],
        [],
    ):
        with pytest.raises(StateError, match=r"seal-keys\.json"):
            SealKeyChain.decode(b"".join(broken))


def test_a_key_that_takes_over_before_its_predecessor_is_refused() -> None:
    keys = [SealKey.generate() for _ in range(2)]
    chain = SealKeyChain.found(keys[0], from_segment=5)
    with pytest.raises(AssertionError):
        chain.replaced_by(keys[1], keys[0], 5)
