"""Reading captured requests, newest first. Any thread; blocks for the disk. Raises OSError."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from appliance.capture.day_file import DayFile, Frame, files_of, frames_of, record_id, sealed_parts
from appliance.capture.exchange import Content, Head
from appliance.errors import StateError
from appliance.keyring.keyring import PurposeCipher

# Of all that is shown at once.
SHOWN_MAX: Final = 16
SHOWN_BYTES_MAX: Final = 64 * 2**20

_heads: Final = msgspec.msgpack.Decoder(Head)
_contents: Final = msgspec.msgpack.Decoder(Content)
T = TypeVar("T")


class CaptureFilter(Struct, frozen=True, kw_only=True):
    """All that are given must hold. since: inclusive, of the request's arrival."""

    request_id: str | None = None
    principal: str | None = None
    since: datetime | None = None

    def takes(self, head: Head) -> bool:
        """Whether the request passes."""
        return (
            (self.request_id is None or head.request_id == self.request_id)
            and (self.principal is None or head.principal == self.principal)
            and (self.since is None or head.time >= self.since)
        )


class Found(Struct, Generic[T], frozen=True):
    """records: newest first. damaged: records that were come across and do not open. more: not all are here."""

    records: list[T]
    damaged: int
    more: bool


class Captured(Struct, frozen=True, kw_only=True):
    """One request with its text."""

    head: Head
    content: Content


def heads(folder: Path, cipher: PurposeCipher, wanted: CaptureFilter, count: int) -> Found[Head]:
    """What is known of the newest `count` requests that pass. Opens no text."""
    search = _Search(folder, cipher, wanted)
    found: list[Head] = []
    for head, _ in search.run():
        if len(found) == count:
            return Found(found, search.damaged, True)
        found.append(head)
    return Found(found, search.damaged, False)


def find(folder: Path, cipher: PurposeCipher, request_id: str) -> Found[Captured]:
    """The requests of this id with their text, SHOWN_MAX and SHOWN_BYTES_MAX of them: clients may choose the same."""
    search = _Search(folder, cipher, CaptureFilter(request_id=request_id))
    found: list[Captured] = []
    size = 0
    for head, place in search.run():
        size += place.frame.content_bytes
        if found and (len(found) == SHOWN_MAX or size > SHOWN_BYTES_MAX):
            return Found(found, search.damaged, True)
        content = search.content(place)
        if content is not None:
            found.append(Captured(head=head, content=content))
    return Found(found, search.damaged, False)


class _Place(Struct, frozen=True):
    file: DayFile
    frame: Frame
    stream: BinaryIO


class _Search:
    """One look through the folder. damaged: so far."""

    def __init__(self, folder: Path, cipher: PurposeCipher, wanted: CaptureFilter) -> None:
        self._folder = folder
        self._cipher = cipher
        self._wanted = wanted
        self.damaged = 0

    def run(self) -> Iterator[tuple[Head, _Place]]:
        """Each place can be read until the next one is asked for."""
        since = self._wanted.since
        for file in reversed(files_of(self._folder)):
            # A request is written after it arrived, never before.
            if since is not None and file.day < since.astimezone(UTC).date():
                return
            try:
                stream = (self._folder / file.name).open("rb")
            except FileNotFoundError:
                continue
            with stream:
                for frame in reversed(list(frames_of(stream))):
                    place = _Place(file, frame, stream)
                    head = self._head(place)
                    if head is not None and self._wanted.takes(head):
                        yield head, place

    def content(self, place: _Place) -> Content | None:
        """None where it does not open."""
        try:
            sealed = sealed_parts(place.stream, place.frame)[1]
            return _contents.decode(self._cipher.unseal(record_id(place.file, place.frame.place, "content"), sealed))
        except (StateError, msgspec.MsgspecError):
            self.damaged += 1
            return None

    def _head(self, place: _Place) -> Head | None:
        place.stream.seek(place.frame.offset)
        sealed = place.stream.read(place.frame.head_bytes)
        try:
            return _heads.decode(self._cipher.unseal(record_id(place.file, place.frame.place, "head"), sealed))
        except (StateError, msgspec.MsgspecError):
            self.damaged += 1
            return None
