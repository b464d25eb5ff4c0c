"""Text from outside, made fit for one line of a log or a terminal. Pure."""

from __future__ import annotations

import re

# C0 and C1 controls, line and direction marks that reorder or hide text, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udfff]")

# Of API keys, also mistyped ones, the part after their id; of JWTs all but the header; recovery keys. JWTs only where a
# word begins, or a long text of their beginnings would take quadratic time.
_SECRET = re.compile(
    r"(apl_(?:sk|adm)_[0-9A-Za-z]{12}_)[0-9A-Za-z]{8,}"
    r"|(?<![0-9A-Za-z_-])(eyJ[A-Za-z0-9_-]{8,}\.)[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|(apl-recovery-secret:)[0-9A-Za-z-]+"
)


def safe_text(text: str, chars_max: int = 256) -> str:
    """`text` with control characters written as escapes, cut to `chars_max`."""
    escaped = _UNSAFE.sub(_escape, text[: chars_max + 1])
    return escaped if len(escaped) <= chars_max else escaped[: chars_max - 1] + "…"


def safe_lines(text: str) -> str:
    """`text` of any length with control characters written as escapes; line ends and tabs stay."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match), text)


def without_secrets(text: str) -> str:
    """`text` without the secret part of keys and tokens: people put them where they do not belong."""
    return _SECRET.sub(_redact, text) if "apl" in text or "eyJ" in text else text


def _redact(match: re.Match[str]) -> str:
    return next(filter(None, match.groups()), "") + "[redacted]"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
