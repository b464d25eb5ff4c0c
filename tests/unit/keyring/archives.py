"""One file as an archive, and back: the streams without a tar in between."""

from __future__ import annotations

from pathlib import Path

from appliance.keyring.archive_stream import CHUNK_BYTES, DecryptingReader, EncryptingWriter, new_file, reading
from appliance.keyring.recovery import RecoveryPublicKey, RecoverySecretKey


def encrypt_archive(public: RecoveryPublicKey, source: Path, target: Path) -> None:
    """Encrypts a file of any size to a new file. Raises StateError, and then there is no target."""
    with reading(source) as file, new_file(target) as out:
        writer = EncryptingWriter(public, out)
        while piece := file.read(CHUNK_BYTES):
            writer.write(piece)
        writer.finish()


def decrypt_archive(secret: RecoverySecretKey, source: Path, target: Path) -> None:
    """Decrypts to a new file. Raises StateError, and then there is no target."""
    with reading(source) as file, new_file(target) as out:
        reader = DecryptingReader(secret, file, str(source))
        while piece := reader.read(CHUNK_BYTES):
            out.write(piece)
