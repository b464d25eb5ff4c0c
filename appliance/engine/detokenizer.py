"""Turns the byte pieces of tokens into text that may be shown."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Detokenizer:
    """Bytes in, whole characters out; holds back what may become a stop string.

    Bytes that can never be UTF-8 become U+FFFD. The answer stops with the first stop string that is complete (the
    longest, if several end at the same character), wherever the pieces were cut; no part of it is ever returned.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        assert all(stop), "an empty stop string would end every answer"
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self._held = ""
        self._stopped_by: str | None = None

    @property
    def may_stop(self) -> bool:
        """Whether there are stop strings, so that the text decides about the end."""
        return bool(self._stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete; nothing more will be returned."""
        return self._stopped_by is not None

    @property
    def stopped_by(self) -> str | None:
        """That stop string; None while there is none."""
        return self._stopped_by

    def push(self, piece: bytes) -> str:
        """Takes the next piece and returns what may be shown now."""
        text = self._held + self._decoder.decode(piece)
        if self.stopped or not self._stop:
            self._held = ""
            return "" if self.stopped else text
        found = self._first_stop(text)
        if found is not None:
            start, self._stopped_by = found
            self._held = ""
            return text[:start]
        shown = len(text) - self._partial_stop_length(text)
        self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """The end of the answer: returns what was held back. A character that is not whole is dropped."""
        text, self._held = self._held, ""
        return text

    def _first_stop(self, text: str) -> tuple[int, str] | None:
        """Where the stop string starts that is complete first, and which one it is."""
        found = [(start + len(stop), start, stop) for stop in self._stop if (start := text.find(stop)) >= 0]
        return min(found)[1:] if found else None

    def _partial_stop_length(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = 0
        for stop in self._stop:
            start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while start >= 0 and len(text) - start > longest:
                if stop.startswith(text[start:]):
                    longest = len(text) - start
                start = text.find(stop[0], start + 1)
        return longest
