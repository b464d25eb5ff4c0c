"""Text from outside, made fit for one line of a log or a terminal. Pure."""

from __future__ import annotations

import re

# C0 and C1 controls, line and direction marks that reorder or hide text, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udfff]")


def safe_text(text: str, chars_max: int = 256) -> str:
    """`text` with control characters written as escapes, cut to `chars_max`."""
    escaped = _UNSAFE.sub(_escape, text[: chars_max + 1])
    return escaped if len(escaped) <= chars_max else escaped[: chars_max - 1] + "…"


def safe_lines(text: str) -> str:
    """`text` of any length with control characters written as escapes; line ends and tabs stay."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match), text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
