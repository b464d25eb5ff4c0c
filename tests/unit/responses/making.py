"""What the tests of kept responses share: a real keyring, a clock that a test moves, ids of chosen times."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appliance.access_config import Responses
from appliance.responses.files import response_id
from appliance.responses.resealing import reseal_responses
from appliance.responses.store import ResponseStore
from tests.unit.capture.making import Clock, open_ring

ON = Responses()


def made_id(number: int, at: float) -> str:
    """A response's id; number: tells it from others of the same second."""
    return response_id(at, f"{number:038x}")


@dataclass
class Site:
    """One folder and all that belongs to it."""

    root: Path
    clock: Clock = field(default_factory=Clock)
    room: bool = True

    def __post_init__(self) -> None:
        self.folder = self.root / "responses"
        self.ring = open_ring(self.root / "secrets")

    def store(self, settings: Responses = ON) -> ResponseStore:
        cipher = self.ring.cipher("responses")
        return ResponseStore(self.folder, cipher, self.clock, settings=settings, has_room=lambda: self.room)

    def id(self, number: int = 1) -> str:
        """Of now."""
        return made_id(number, self.clock().timestamp())

    def reseal(self) -> bool:
        return reseal_responses(self.folder, self.ring.cipher("responses"))

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*/*.sealed"))
