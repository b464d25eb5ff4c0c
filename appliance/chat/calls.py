"""Finds calls of tools in an answer while it is written."""

from __future__ import annotations

import re
from typing import Final

from appliance.chat.blocks import BLOCK_CHARS_MAX, Block
from appliance.chat.markers import MarkerSearch, pieces, solid
from appliance.chat.parts import Call, Content, Part
from appliance.chat.syntax import Syntax
from appliance.chat.tools import Tools

# Without a marker an answer in JSON is an answer in JSON, unless it has these.
_ARGUMENTS: Final = re.compile(r'"(?:arguments|parameters)"|\(')


class CallParser:
    """Text in, parts out. What may still become a marker or a call is held back, everything else goes on at once.

    A call comes out when it is whole: its tool is known then, and its arguments are JSON. What is no such call comes
    out as the text it is, marked. calls_max: what comes after so many calls is dropped.
    """

    def __init__(self, syntax: Syntax, tools: Tools, calls_max: int | None = None) -> None:
        self._syntax = syntax
        self._tools = tools
        self._left = calls_max
        self._begins = MarkerSearch(syntax.begins)
        self._after = MarkerSearch((*syntax.begins, *syntax.fillers))
        self._held = ""
        self._bare = syntax.bare is not None
        self._after_call = False
        self._lead = ""
        self._marker = ""
        self._block: Block | None = None
        self._pieces: list[str] = []
        self._chars = 0

    @property
    def done(self) -> bool:
        """Whether there were `calls_max` calls."""
        return self._left == 0

    def feed(self, text: str) -> list[Part]:
        """Takes the next text."""
        parts: list[Part] = []
        for piece in pieces(text):
            rest = piece
            while rest and self._left != 0:
                rest = self._in_block(rest, parts) if self._block is not None else self._in_text(rest, parts)
        return parts

    def end(self) -> list[Part]:
        """The answer is over: gives back what was held."""
        parts: list[Part] = []
        if self._block is not None:
            # A call that is cut off must not be made.
            self._say(self._lead, parts)
            self._say(self._marker + "".join(self._pieces), parts, unparsed=True)
            self._block = None
        elif not self._after_call:
            self._say(self._held, parts)
        elif not any(filler.startswith(self._held) for filler in (*self._syntax.fillers, "")):
            self._say(self._held, parts, unparsed=True)
        self._held = ""
        return [] if self.done else parts

    # ── between calls ─────────────────────────────────────────────────────────────────────────────────────────────

    def _in_text(self, text: str, parts: list[Part]) -> str:
        """Returns what is to be looked at next."""
        text, self._held = self._held + text, ""
        if self._after_call:
            text = self._skip_fillers(text)
            if self._after_call:
                self._held = text
                return ""
        if self._bare:
            assert self._syntax.bare is not None
            verdict = self._syntax.bare(text)
            if verdict == "maybe":
                self._held = text
                return ""
            self._bare = False
            if verdict == "yes":
                stripped = text.lstrip()
                return self._open("", text[: len(text) - len(stripped)], stripped)
        found = self._begins.find(text)
        if found is not None:
            said = solid(text[: found.start()])
            self._say(text[:said], parts)
            return self._open(found[0], text[said : found.start()], text[found.end() :])
        said = solid(text[: len(text) - self._begins.partial(text)])
        self._say(text[:said], parts)
        self._held = text[said:]
        return ""

    def _skip_fillers(self, text: str) -> str:
        """What stands behind white space and fillers; it is not after the call any more where it is something else."""
        while True:
            text = text.lstrip()
            filler = next((filler for filler in self._syntax.fillers if text.startswith(filler)), None)
            if filler is None:
                break
            text = text[len(filler) :]
        self._after_call = self._after.partial(text) == len(text)
        return text

    def _open(self, marker: str, lead: str, rest: str) -> str:
        make = self._syntax.begins[marker] if marker else self._syntax.bare_block
        assert make is not None
        self._marker, self._lead, self._block = marker, lead, make(marker)
        self._pieces, self._chars = [], 0
        return rest

    # ── in a call ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _in_block(self, text: str, parts: list[Part]) -> str:
        assert self._block is not None
        progress, end = self._block.feed(text, 0)
        if progress == "whole":
            block = self._marker + "".join(self._pieces) + text[:end]
            calls = self._block.calls(block, self._tools) if len(block) <= BLOCK_CHARS_MAX else None
            self._block, self._pieces = None, []
            if calls is None:
                self._say(self._lead, parts)
                self._say(block, parts, unparsed=bool(self._marker) or _ARGUMENTS.search(block) is not None)
            else:
                self._call(calls, parts)
            return text[end:]
        self._pieces.append(text)
        self._chars += len(text)
        if progress == "open" and self._chars <= BLOCK_CHARS_MAX:
            return ""
        rest = "".join(self._pieces)
        self._block, self._pieces = None, []
        self._say(self._lead, parts)
        if progress == "open" or not self._marker:
            self._say(self._marker + rest, parts, unparsed=True)
            return ""
        self._say(self._marker, parts, unparsed=True)
        return rest

    def _call(self, calls: list[Call], parts: list[Part]) -> None:
        if self._left is not None:
            calls = calls[: self._left]
            self._left -= len(calls)
        parts += calls
        self._after_call = True
        self._bare = self._syntax.bare is not None

    def _say(self, text: str, parts: list[Part], *, unparsed: bool = False) -> None:
        if text:
            parts.append(Content(text, unparsed))
