"""Encrypting captured requests again, under the newest data key."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import BinaryIO

from appliance.capture.day_file import DayFile, claim, files_of, frames_of, join_frame, record_id, sealed_parts
from appliance.errors import StateError
from appliance.keyring.keyring import PurposeCipher
from appliance.state_dir import replacing

_log = logging.getLogger(__name__)


def reseal_capture(folder: Path, cipher: PurposeCipher) -> bool:
    """Encrypts files anew; True once nothing in the folder needs an older key. One caller at a time.

    The file that is being written is its writer's, who leaves it within a second of a rotation. A file with a record
    that does not open stays as it is until it has aged out, and the older key with it. Blocking. Raises StateError.
    """
    try:
        sweep(folder)
        done = [_is_current(folder, file, cipher) or _reseal(folder, file, cipher) for file in files_of(folder)]
        return all(done)
    except OSError as error:
        raise StateError(f"{folder} cannot be encrypted anew: {error.strerror}") from error


def sweep(folder: Path) -> None:
    """Removes what a sealing that was cut short left. Raises OSError."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def _is_current(folder: Path, file: DayFile, cipher: PurposeCipher) -> bool:
    """Whether the newest key sealed all of it: none of its parts was sealed earlier than the first.

    One that is empty may be about to get a record under an older key.
    """
    try:
        stream = (folder / file.name).open("rb")
    except FileNotFoundError:
        return True
    with stream:
        first = next(frames_of(stream), None)
        return first is not None and cipher.is_current(sealed_parts(stream, first)[0])


def _reseal(folder: Path, file: DayFile, cipher: PurposeCipher) -> bool:
    path = folder / file.name
    stream = claim(path)
    if stream is None:
        return not path.exists()
    with stream:
        try:
            with replacing(path) as target:
                _copy(stream, target, file, cipher)
        except StateError as error:
            _log.warning("%s is not encrypted anew: %s", path, error)
            return False
    return True


def _copy(source: BinaryIO, target: BinaryIO, file: DayFile, cipher: PurposeCipher) -> None:
    for frame in frames_of(source):
        head, content = sealed_parts(source, frame)
        head_id, content_id = record_id(file, frame.place, "head"), record_id(file, frame.place, "content")
        again = cipher.seal(head_id, cipher.unseal(head_id, head))
        target.write(join_frame(again, cipher.seal(content_id, cipher.unseal(content_id, content))))
