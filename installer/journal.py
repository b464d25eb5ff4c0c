"""What is going on with the releases, written before it is done: whoever comes after a power cut reads it here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from installer.durable import remove, write_whole
from installer.errors import StepFailed
from installer.layout import Layout

Phase = Literal["begun", "switched"]


@dataclass(frozen=True, slots=True)
class Change:
    """From one release to another, by their versions; before: None where there was none.

    phase: `switched` once the new release may have written to the state. restore: whether the earlier release needs
    the state back as it was.
    """

    before: str | None
    after: str
    phase: Phase
    restore: bool


def under_way(layout: Layout) -> Change | None:
    """Raises StepFailed where the journal is not readable."""
    try:
        return Change(**json.loads(layout.journal.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise StepFailed(
            f"{layout.journal} is damaged ({error}); see which release is current, and remove it"
        ) from None


def note(layout: Layout, change: Change) -> None:
    write_whole(layout.journal, json.dumps(asdict(change)).encode())


def finish(layout: Layout) -> None:
    """From here on the change is done."""
    remove(layout.journal)


def remember(layout: Layout, when: str, **what: Any) -> None:
    """A line of the history, which nothing here reads. when: UTC, ISO 8601."""
    line = json.dumps({"time": when, **what}) + "\n"
    earlier = layout.history.read_bytes() if layout.history.exists() else b""
    write_whole(layout.history, earlier + line.encode())
