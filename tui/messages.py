"""What the worker that follows a source tells the app. The app's handlers change what is known; workers never do."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from appliance.telemetry.snapshot import Snapshot
from tui.proposals.proposal import Proposal
from tui.source import Identity, Surroundings, Update


class Arrived(Message):
    """Something new came; it is safe to show."""

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.update = update


class Recalled(Message):
    """What was before the dashboard was opened."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        super().__init__()
        self.snapshots = snapshots


class Introduced(Message):
    """Who is looking."""

    def __init__(self, identity: Identity) -> None:
        super().__init__()
        self.identity = identity


class Gone(Message):
    """The source is lost. retry_seconds: until the next try."""

    def __init__(self, reason: str, retry_seconds: float) -> None:
        super().__init__()
        self.reason = reason
        self.retry_seconds = retry_seconds


class ShowText(Message):
    """A text is to be shown in full, over the screen. It is safe to show, but for its line ends."""

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.title = title
        self.text = text


class Propose(Message):
    """Somebody wants to do something; they are asked first."""

    def __init__(self, proposal: Proposal) -> None:
        super().__init__()
        self.proposal = proposal


class Said(Message):
    """A fixed word is to be said in the status line for a while."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Surrounded(Message):
    """What the host shows without the appliance; it is safe to show."""

    def __init__(self, found: Surroundings | None) -> None:
        super().__init__()
        self.found = found
