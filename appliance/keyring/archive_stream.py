"""Encryption of a stream of any length to a recovery key: X25519, HKDF-SHA256, AES-256-GCM in chunks.

    header   magic `APLREC1\\n` (8 bytes) | fingerprint of the recipient (8) | ephemeral X25519 public key (32)
    chunks   AES-256-GCM of 64 KiB of plaintext each, 16 bytes longer; the last one has 0 to 64 KiB
    key      HKDF-SHA256(X25519(ephemeral, recipient), salt = ephemeral public key | recipient's, info = magic)
    nonce    chunk number (11 bytes, big-endian, from 0) | 1 for the last chunk, else 0 (1 byte)
    additional data   the header

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its
Nonce-Reuse Misuse-Resistance, 2015), as age has it. The number in the nonce finds chunks that were exchanged, repeated
or left out; the flag finds an end that came too early (the last chunk there lacks it) and anything behind the end (the
chunk that has it is not last). The last chunk is empty only where the whole stream is, so a content has one form. Each
stream has its own ephemeral key, so a nonce never meets its key again.

Who has the public key can make such a stream: it says for whom it is, not from whom. Keep a digest where that counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import StateError
from appliance.keyring.recovery import RecoveryPublicKey, RecoverySecretKey
from appliance.state_dir import replacing

CHUNK_BYTES: Final = 64 * 2**10
TAG_BYTES: Final = 16
_MAGIC: Final = b"APLREC1\n"
HEADER_BYTES: Final = len(_MAGIC) + 8 + 32
_COUNTER_BYTES: Final = 11


class Sink(Protocol):
    """Where bytes go: a file, or what passes them on to one."""

    def write(self, data: bytes, /) -> int: ...


class Source(Protocol):
    """Where bytes come from: `size` of them, fewer only at the end."""

    def read(self, size: int, /) -> bytes: ...


class EncryptingWriter:
    """Takes plaintext by `write` and puts the stream into `target`; without `finish` it is truncated."""

    def __init__(self, recipient: RecoveryPublicKey, target: Sink) -> None:
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        try:
            shared = ephemeral.exchange(recipient.key)
        except ValueError as error:
            raise StateError("this recovery key gives no secret; generate another one") from error
        self._aead = AESGCM(_stream_key(shared, public, recipient.raw))
        self._header = _MAGIC + recipient.fingerprint + public
        self._target = target
        self._number = 0
        self._pending = bytearray()
        target.write(self._header)

    def write(self, data: bytes) -> int:
        """Keeps back up to a whole chunk: only what comes after it shows that it is not the last."""
        self._pending += data
        while len(self._pending) > CHUNK_BYTES:
            self._emit(bytes(self._pending[:CHUNK_BYTES]), last=False)
            del self._pending[:CHUNK_BYTES]
        return len(data)

    def finish(self) -> None:
        """Writes the last chunk. Nothing may be written afterwards."""
        self._emit(bytes(self._pending), last=True)
        self._pending.clear()

    def _emit(self, chunk: bytes, *, last: bool) -> None:
        self._target.write(self._aead.encrypt(_nonce(self._number, last=last), chunk, self._header))
        self._number += 1


class DecryptingReader:
    """Gives the plaintext of the stream in `source`; nothing of a chunk before the whole chunk is proven.

    Whether the stream is whole shows only at its end: read until `read` returns nothing before you trust any of it.
    Raises StateError. name: what messages call the stream.
    """

    def __init__(self, secret: RecoverySecretKey, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        self._header = source.read(HEADER_BYTES)
        if len(self._header) != HEADER_BYTES or not self._header.startswith(_MAGIC):
            raise StateError(f"{name} is no archive of this appliance, or its beginning is damaged; take another copy")
        recipient = self._header[len(_MAGIC) : len(_MAGIC) + 8]
        if recipient != secret.public.fingerprint:
            raise StateError(
                f"{name} was made for the recovery key {recipient.hex()}, and this one is "
                f"{secret.public.fingerprint.hex()}; find the other paper"
            )
        public = self._header[-32:]
        try:
            shared = secret.key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise self._damaged() from error
        self._aead = AESGCM(_stream_key(shared, public, secret.public.raw))
        self._number = 0
        self._plain = memoryview(b"")
        self._ahead = source.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = False

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the proven end of the stream."""
        parts: list[memoryview] = []
        while size > 0:
            if not self._plain and not self._advance():
                break
            part = self._plain[:size]
            self._plain = self._plain[len(part) :]
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _advance(self) -> bool:
        """Opens the next chunk; False where there is none."""
        if self._ended:
            return False
        chunk, self._ahead = self._ahead, self._source.read(CHUNK_BYTES + TAG_BYTES)
        self._ended = not self._ahead
        try:
            plain = self._aead.decrypt(_nonce(self._number, last=self._ended), chunk, self._header)
        except (InvalidTag, ValueError) as error:
            raise self._damaged() from error
        if not plain and self._number > 0:
            raise self._damaged()
        self._number += 1
        self._plain = memoryview(plain)
        return bool(plain)

    def _damaged(self) -> StateError:
        return StateError(f"{self._name} is damaged or cut short; take another copy")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """An archive, opened. Raises StateError when that fails; what fails later belongs to who reads."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise StateError(f"{path}: cannot be read: {error.strerror or error}") from error
    with file:
        yield file


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file, mode 0600, that gets its name when the block ends without an error and it is durable; else it is removed.

    Raises StateError, also where `path` exists.
    """
    if path.exists() or path.is_symlink():
        raise StateError(f"{path} exists already; choose another name, or move it away")
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise StateError(f"{path}: cannot be made: {error.strerror or error}") from error


def _stream_key(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=ephemeral + recipient, info=_MAGIC).derive(shared)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(_COUNTER_BYTES, "big") + (b"\x01" if last else b"\x00")
