"""What came back of one request, read from its recorded bytes after the fact."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

# A moment of the monotonic clock, in seconds, and the bytes that one read returned then.
Piece = tuple[float, bytes]

_OK: Final = re.compile(rb"HTTP/1\.[01] 200 ")
_CHUNK_HEAD: Final = re.compile(rb"([0-9a-fA-F]+)\r\n")
_EVENT: Final = b"data: "
_END: Final = b"[DONE]"
_decoder: Final = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outcome. sent, arrivals: moments of the monotonic clock, in seconds; arrivals are those of chunks
    with text. Token counts are the server's own. error: None where the whole answer came.
    """

    sent: float
    arrivals: tuple[float, ...] = ()
    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None

    @property
    def ttft(self) -> float:
        """Seconds to the first text."""
        return self.arrivals[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between one chunk with text and the next. A token that ends in half a character has no chunk."""
        return [after - before for before, after in itertools.pairwise(self.arrivals)]


@dataclass(frozen=True, slots=True)
class Recording:
    """A request's bytes as they came, not read yet: that can wait until the clock has stopped.

    tokens: how many were asked for. failure: why no whole answer came, where the client knows.
    """

    sent: float
    tokens: int
    pieces: Sequence[Piece]
    failure: str | None = None

    def read(self) -> Answer:
        """Makes sense of it; a few microseconds a chunk."""
        if self.failure is not None:
            return Answer(self.sent, error=self.failure)
        return read_answer(self.sent, self.pieces, self.tokens)


def read_answer(sent: float, pieces: Sequence[Piece], tokens: int) -> Answer:
    """Understands both servers: OpenAI's completion chunks, and those of llama-server's own /completion.

    `tokens` were asked for; another number is an error.
    """
    head, _, _ = b"".join(data for _, data in pieces).partition(b"\r\n\r\n")
    if not _OK.match(head):
        return Answer(sent, error=head.split(b"\r\n")[0].decode(errors="replace") or "no answer")
    arrivals: list[float] = []
    text: list[str] = []
    counts = (0, 0, 0)
    for moment, event in _events(pieces):
        if "error" in event:
            return Answer(sent, tuple(arrivals), error=str(event["error"]))
        if piece := _text_of(event):
            arrivals.append(moment)
            text.append(piece)
        counts = _counts_of(event) or counts
    prompt, cached, completion = counts
    error = None if completion == tokens and arrivals else f"{completion} of {tokens} tokens came"
    return Answer(sent, tuple(arrivals), "".join(text), prompt, cached, completion, error)


def _events(pieces: Sequence[Piece]) -> list[tuple[float, dict[str, Any]]]:
    """Each `data:` event with the moment at which it was whole."""
    events = []
    moments = _body(pieces)
    buffer = b""
    for moment, data in moments:
        buffer += data
        *blocks, buffer = buffer.split(b"\n\n")
        for block in blocks:
            if block.startswith(_EVENT) and not block.endswith(_END):
                events.append((moment, _decoder.decode(block.removeprefix(_EVENT))))
    return events


def _body(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces without HTTP's head and chunk frames, which may be cut anywhere."""
    body: list[Piece] = []
    buffer, in_body = b"", False
    for moment, data in pieces:
        buffer += data
        if not in_body:
            _, separator, rest = buffer.partition(b"\r\n\r\n")
            if not separator:
                continue
            buffer, in_body = rest, True
        start = 0
        while (head := _CHUNK_HEAD.match(buffer, start)) and len(buffer) >= head.end() + (size := int(head[1], 16)) + 2:
            body.append((moment, buffer[head.end() : head.end() + size]))
            start = head.end() + size + 2
        buffer = buffer[start:]
    return body


def _text_of(event: dict[str, Any]) -> str:
    if "content" in event:
        return str(event["content"])
    return "".join(choice["text"] for choice in event["choices"])


def _counts_of(event: dict[str, Any]) -> tuple[int, int, int] | None:
    """Prompt, cached and completion tokens, where the event has them."""
    if (usage := event.get("usage")) is not None:
        return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens"]
    if event.get("stop") is True:
        timings = event["timings"]
        return timings["cache_n"] + timings["prompt_n"], timings["cache_n"], timings["predicted_n"]
    return None
