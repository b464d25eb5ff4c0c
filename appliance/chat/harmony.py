"""gpt-oss's answers: messages with a header, a channel and a recipient each."""

from __future__ import annotations

import re
from typing import Final

from appliance.chat.markers import MarkerSearch, pieces
from appliance.chat.parts import Content, Part, Reasoning
from appliance.chat.tools import Tools

CHANNEL: Final = "<|channel|>"
MESSAGE: Final = "<|message|>"
HARMONY_MARKERS: Final = (CHANNEL, MESSAGE, "<|start|>", "<|end|>", "<|call|>", "<|return|>", "<|constrain|>")

# A longer header is none.
_HEADER_CHARS_MAX: Final = 512
_CALL_CHARS_MAX: Final = 1_000_000
_RECIPIENT: Final = re.compile(r"\bto=(\S+?)(?=<\||\s|$)")
_CHANNEL: Final = re.compile(r"<\|channel\|>\s*(\w+)")
_HEADER_BEGINS: Final = ("<|channel|>", "<|start|>", "<|message|>", "to=", "assistant")
_ENDS: Final = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")


class HarmonyParser:
    """Text in, parts out. The answer begins in the first message's header; what has none is the answer's text.

    analysis: is reasoning. A message to `functions.NAME` is a call, which comes out when it is whole.
    """

    def __init__(self, tools: Tools, calls_max: int | None = None) -> None:
        self._tools = tools
        self._left = calls_max
        self._ends = MarkerSearch(_ENDS)
        self._held = ""
        self._in_header = True
        self._recipient: str | None = None
        self._channel = "final"
        self._call: list[str] = []
        self._call_chars = 0
        self._thought = False

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends in what the model thinks."""
        return not self._in_header and self._channel == "analysis" and self._recipient is None

    @property
    def done(self) -> bool:
        """Whether there were `calls_max` calls."""
        return self._left == 0

    def feed(self, text: str) -> list[Part]:
        """Takes the next text."""
        parts: list[Part] = []
        for piece in pieces(text):
            rest, self._held = self._held + piece, ""
            while rest and self._left != 0:
                rest = self._header(rest, parts) if self._in_header else self._body(rest, parts)
        return parts

    def end(self) -> list[Part]:
        """The answer is over: gives back what was held. A call ends with the answer: its end is the answer's."""
        text, self._held = self._held, ""
        parts: list[Part] = []
        if self._in_header:
            # A header that has no message says nothing.
            if text and not text.lstrip().startswith(_HEADER_BEGINS):
                parts.append(Content(text))
        else:
            self._say(text, parts)
            self._close(parts)
        return parts

    def _header(self, text: str, parts: list[Part]) -> str:
        stripped = text.lstrip()
        begins = stripped.startswith(_HEADER_BEGINS)
        if not begins and not any(each.startswith(stripped) for each in _HEADER_BEGINS):
            return self._open("", text)
        at = text.find(MESSAGE, 0, _HEADER_CHARS_MAX)
        if at >= 0:
            return self._open(text[:at], text[at + len(MESSAGE) :])
        if len(text) >= _HEADER_CHARS_MAX:
            # No header after all: its marker is text like any other.
            marker = self._ends.find(text)
            end = len(text) - len(stripped) if marker is None else marker.end()
            self._open("", "")
            self._say(text[:end], parts)
            return text[end:]
        self._held = text
        return ""

    def _open(self, header: str, rest: str) -> str:
        recipient, channel = _RECIPIENT.search(header), _CHANNEL.search(header)
        self._recipient = recipient[1] if recipient is not None else None
        self._channel = channel[1] if channel is not None else "final"
        self._in_header = False
        return rest

    def _body(self, text: str, parts: list[Part]) -> str:
        found = self._ends.find(text)
        if found is None:
            shown = len(text) - self._ends.partial(text)
            self._say(text[:shown], parts)
            self._held = text[shown:]
            return ""
        self._say(text[: found.start()], parts)
        self._close(parts)
        self._in_header = True
        return text[found.start() if found[0] == CHANNEL else found.end() :]

    def _say(self, text: str, parts: list[Part]) -> None:
        if not text:
            return
        if self._recipient is not None:
            self._call.append(text)
        elif self._channel == "analysis":
            parts.append(Reasoning("\n" + text if self._thought else text))
            self._thought = False
        else:
            parts.append(Content(text))

    def _close(self, parts: list[Part]) -> None:
        """The message is over."""
        if self._recipient is None:
            self._thought = self._channel == "analysis"
            return
        text, self._call = "".join(self._call), []
        name = self._recipient.removeprefix("functions.")
        call = self._tools.call(name, text) if len(text) <= _CALL_CHARS_MAX else None
        if call is None:
            parts.append(Content(f"{self._recipient} {text}", unparsed_call=True))
        else:
            parts.append(call)
            self._left = None if self._left is None else self._left - 1
        self._recipient = None
