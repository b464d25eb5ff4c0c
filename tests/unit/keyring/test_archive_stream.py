"""appliance.keyring.archive_stream"""

from __future__ import annotations

import contextlib
import io
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import StateError
from appliance.keyring.archive_stream import (
    CHUNK_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    DecryptingReader,
    EncryptingWriter,
    new_file,
)
from appliance.keyring.recovery import RecoveryPublicKey, RecoverySecretKey
from tests.unit.keyring.archives import decrypt_archive, encrypt_archive

SECRET = RecoverySecretKey(X25519PrivateKey.generate())
SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES
SIZES = st.one_of(
    st.integers(0, 100),
    st.builds(lambda chunks, off: max(0, chunks * CHUNK_BYTES + off), st.integers(0, 3), st.integers(-2, 2)),
)


def encrypt(plaintext: bytes, piece: int = 2**20) -> bytes:
    target = io.BytesIO()
    writer = EncryptingWriter(SECRET.public, target)
    for at in range(0, len(plaintext), piece):
        writer.write(plaintext[at : at + piece])
    writer.finish()
    return target.getvalue()


def decrypt(stream: bytes, piece: int = 2**20) -> bytes:
    reader = DecryptingReader(SECRET, io.BytesIO(stream), "the archive")
    return b"".join(iter(lambda: reader.read(piece), b""))


def chunks(stream: bytes) -> list[bytes]:
    body = stream[HEADER_BYTES:]
    return [body[at : at + SEALED_CHUNK] for at in range(0, len(body), SEALED_CHUNK)]


@settings(max_examples=40)
@given(size=SIZES, written=st.integers(1000, 200_000), read=st.integers(1000, 200_000))
def test_what_goes_in_comes_out(size: int, written: int, read: int) -> None:
    plaintext = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    stream = encrypt(plaintext, written)
    count = max(1, -(-size // CHUNK_BYTES))
    assert len(stream) == HEADER_BYTES + size + count * TAG_BYTES
    assert decrypt(stream, read) == plaintext
    assert encrypt(plaintext) != stream


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_it_is_never_whole_when_cut(size: int) -> None:
    stream = encrypt(bytes(size))
    cuts = {0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + TAG_BYTES, len(stream) - 1}
    for boundary in range(HEADER_BYTES, len(stream), SEALED_CHUNK):
        cuts |= {boundary - 1, boundary, boundary + 1, boundary + TAG_BYTES}
    for cut in sorted(cut for cut in cuts if cut < len(stream)):
        with pytest.raises(StateError, match="take another copy"):
            decrypt(stream[:cut])


def test_chunks_keep_their_order_and_number() -> None:
    stream = encrypt(bytes(3 * CHUNK_BYTES))
    header, (a, b, c) = stream[:HEADER_BYTES], chunks(stream)
    assert decrypt(header + a + b + c) == bytes(3 * CHUNK_BYTES)
    for wrong in ([b, a, c], [a, c], [b, c], [a, b], [a, a, b, c], [a, b, c, c], [a, c, b], [c], [a, b, c, b"x"], []):
        with pytest.raises(StateError, match="damaged or cut short"):
            decrypt(header + b"".join(wrong))


def test_chunks_of_two_streams_do_not_mix() -> None:
    one, two = encrypt(bytes(2 * CHUNK_BYTES)), encrypt(bytes(2 * CHUNK_BYTES))
    with pytest.raises(StateError):
        decrypt(one[: HEADER_BYTES + SEALED_CHUNK] + two[HEADER_BYTES + SEALED_CHUNK :])
    with pytest.raises(StateError):
        decrypt(one[:HEADER_BYTES] + two[HEADER_BYTES:])


def test_any_flipped_byte_is_found() -> None:
    stream = encrypt(b"a short content")
    for at in range(len(stream)):
        with pytest.raises(StateError):
            decrypt(stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :])


def test_another_recovery_key_is_named() -> None:
    other = RecoverySecretKey(X25519PrivateKey.generate())
    fingerprints = f"{SECRET.public.fingerprint.hex()}, and this one is {other.public.fingerprint.hex()}"
    with pytest.raises(StateError, match=f"made for the recovery key {fingerprints}; find the other paper"):
        DecryptingReader(other, io.BytesIO(encrypt(b"")), "the archive")


def test_a_point_without_a_secret_is_refused() -> None:
    with pytest.raises(StateError, match="gives no secret"):
        EncryptingWriter(RecoveryPublicKey(X25519PublicKey.from_public_bytes(bytes(32))), io.BytesIO())
    stream = encrypt(b"x")
    with pytest.raises(StateError, match="damaged"):
        decrypt(stream[: HEADER_BYTES - 32] + bytes(32) + stream[HEADER_BYTES:])


def test_files(tmp_path: Path) -> None:
    source, archive, target = tmp_path / "source", tmp_path / "archive", tmp_path / "target"
    source.write_bytes(b"content" * 50_000)
    encrypt_archive(SECRET.public, source, archive)
    decrypt_archive(SECRET, archive, target)
    assert target.read_bytes() == source.read_bytes()
    assert archive.stat().st_mode & 0o777 == target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "source", "target"]


def test_a_damaged_archive_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(encrypt(bytes(2 * CHUNK_BYTES))[:-1])
    with pytest.raises(StateError, match="archive is damaged or cut short"):
        decrypt_archive(SECRET, tmp_path / "archive", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@contextlib.contextmanager
def small_disk() -> Iterator[None]:
    """No file of this process may pass 100 kB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(200_000))
    with small_disk(), pytest.raises(StateError, match="archive: cannot be made: "):
        encrypt_archive(SECRET.public, tmp_path / "source", tmp_path / "archive")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(StateError, match="exists already"), new_file(tmp_path / "target"):
        pass
    assert (tmp_path / "target").read_bytes() == b"old"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="missing: cannot be read: No such file"):
        encrypt_archive(SECRET.public, tmp_path / "missing", tmp_path / "target")
