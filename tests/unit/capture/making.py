"""What the capture tests share: a real keyring, a clock that a test moves, and requests made in one call."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from appliance.access_config import Capture
from appliance.capture.day_file import WriteCall, files_of
from appliance.capture.exchange import CapturedChoice, Exchange
from appliance.capture.prompt_capture import PromptCapture
from appliance.capture.reading import Captured, CaptureFilter, Found, find, heads
from appliance.capture.resealing import reseal_capture
from appliance.capture.writer import CaptureWriter
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring, PurposeCipher
from appliance.telemetry.request_record import RequestRecord

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ON = Capture(enabled=True)
SECRET = "my patient Ms Example"


@dataclass
class Clock:
    """Stands still until a test moves it."""

    at: datetime = NOON

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **time: float) -> None:
        self.at += timedelta(**time)


def open_ring(folder: Path) -> Keyring:
    """The keyring of a folder, made where there is none."""
    folder.mkdir(exist_ok=True)
    kek = FileKek.open(folder, create=not any(folder.glob("kek*")))
    return Keyring.open(folder / "keyring.json", kek, Clock(), create=True)


@dataclass
class Site:
    """One capture folder and all that belongs to it."""

    root: Path
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.folder = self.root / "capture"
        self.ring = open_ring(self.root / "secrets")

    @property
    def cipher(self) -> PurposeCipher:
        return self.ring.cipher("capture")

    def writer(self, settings: Capture = ON, write: WriteCall = os.write) -> CaptureWriter:
        return CaptureWriter(self.folder, self.cipher, settings, self.clock, write=write)

    def capture(self, **options: object) -> PromptCapture:
        return PromptCapture(self.folder, self.cipher, self.clock, **options)  # type: ignore[arg-type]

    def write(self, *exchanges: Exchange, settings: Capture = ON) -> CaptureWriter:
        """Writes them with a writer of their own, which is closed."""
        writer = self.writer(settings)
        for exchange in exchanges:
            assert writer.put(exchange)
        writer.close()
        return writer

    def reseal(self) -> bool:
        return reseal_capture(self.folder, self.cipher)

    def ids(self, **wanted: object) -> list[str]:
        """What a list shows, newest first."""
        found = heads(self.folder, self.cipher, CaptureFilter(**wanted), 10_000)  # type: ignore[arg-type]
        assert not found.damaged
        return [head.request_id for head in found.records]

    def find(self, request_id: str) -> Found[Captured]:
        return find(self.folder, self.cipher, request_id)

    @property
    def paths(self) -> list[Path]:
        return [self.folder / file.name for file in files_of(self.folder)]


def record(request_id: str = "r1", principal: str = "alice", at: datetime = NOON, **fields: object) -> RequestRecord:
    given = {
        "id": request_id,
        "time": at.timestamp(),
        "address": "127.0.0.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "outcome": "ok",
        "status": 200,
        "total_seconds": 0.5,
        "principal": principal,
        "model": "demo",
        "finish_reason": "stop",
    }
    return RequestRecord(**{**given, **fields})  # type: ignore[arg-type]


def exchange(
    request_id: str = "r1",
    principal: str = "alice",
    *,
    prompt: str = SECRET,
    answer: str = "the answer",
    at: datetime = NOON,
    bytes_max: int = 2**18,
) -> Exchange:
    body = msgspec.json.encode({"model": "demo", "messages": [{"role": "user", "content": prompt}]})
    choices = (CapturedChoice(text=answer, reason="stop"),)
    return Exchange(record=record(request_id, principal, at), body=body, choices=choices, bytes_max=bytes_max)
