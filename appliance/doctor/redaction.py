"""Text that leaves the house, without what opens doors. Pure.

What goes into a diagnose bundle is chosen so that no secret is in it; this is for what somebody wrote where it does not
belong: a comment, a command line in the journal, a value under the wrong key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from appliance.safe_text import without_secrets

GONE: Final = "[redacted]"

# Also one whose end is cut off.
_PRIVATE_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_URL_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@\"']{1,512}@", re.IGNORECASE)
_AUTHORIZATION: Final = re.compile(r"(\b(?:bearer|basic)[ \t]+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_SECRETS: Final = "password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|pin|credential"
_SECRET_NAME: Final = re.compile(rf"(?:\b|_)(?:{_SECRETS})$", re.IGNORECASE)
# `name: value`, `name=value`, `"name": "value"`, where the name is that of a secret.
_NAMED: Final = re.compile(
    rf"""(?P<name>["']?\b[\w.-]{{0,40}}?(?:{_SECRETS})
        ["']?[ \t]*(?:[:=]|[ ]is[ ])[ \t]*)
        (?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,}}"']+)""",
    re.VERBOSE | re.IGNORECASE,
)
# Keys of well-known services, by their beginnings.
_KNOWN: Final = re.compile(r"\b((?:sk|hf|ghp|gho|glpat|xoxb)[-_])[A-Za-z0-9_-]{16,}")
# 32 bytes or more in base64. Hashes are hexadecimal and stay.
_OPAQUE: Final = re.compile(
    r"(?<![A-Za-z0-9+/_=-])(?=[A-Za-z0-9+/_-]*[0-9])(?=[A-Za-z0-9+/_-]*[A-Z])[A-Za-z0-9+/_-]{43,}={0,2}"
)
_PART_CHARS_MIN: Final = 12
_HARMLESS: Final = frozenset({"true", "false", "null", "none", "-", "0", GONE})


def redacted(text: str) -> str:
    """`text` of a log, a configuration file or an answer, without secrets that can be told as such."""
    text = _PRIVATE_PEM.sub("[redacted private key]", text)
    text = without_secrets(text)
    text = _URL_PASSWORD.sub(rf"\1{GONE}@", text)
    text = _AUTHORIZATION.sub(rf"\1{GONE}", text)
    text = _KNOWN.sub(rf"\1{GONE}", text)
    text = _NAMED.sub(_named, text)
    return _OPAQUE.sub(_opaque, text)


def redacted_data(value: Any) -> Any:
    """Plain data, every text in it so; what stands under the name of a secret goes as a whole."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {
            name: GONE if isinstance(inner, str) and _SECRET_NAME.search(name) else redacted_data(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted_data(inner) for inner in value]
    return value


def without_comments(yaml: str) -> str:
    """A YAML file without its comments, where people keep what they should not."""
    return "\n".join(re.sub(r"(^|[ \t])#.*", "", line).rstrip() for line in yaml.splitlines())


def _named(match: re.Match[str]) -> str:
    value = match["value"]
    if value.strip("\"'").lower() in _HARMLESS or value.strip("\"'").isdigit():
        return match[0]
    return f"{match['name']}{GONE}"


def _opaque(match: re.Match[str]) -> str:
    # Names and paths have short parts.
    longest = max(map(len, re.split(r"[+/_-]", match[0])))
    return GONE if longest >= _PART_CHARS_MIN else match[0]
