"""A signed JSON value in a file of one line: `body TAB signature NEWLINE`. Pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from appliance.audit.keys import SealKey, is_signed
from appliance.audit.record import canonical

T = TypeVar("T")


def sign_line(value: object, key: SealKey) -> bytes:
    """The line of `value`."""
    body = canonical(value)
    return b"%b\t%b\n" % (body, key.sign(body).hex().encode())


def read_line(line: bytes, kind: type[T], public: bytes) -> T | None:
    """The value, or None where the line has another form or the key with this public half did not sign it."""
    body, tab, signature = line.removesuffix(b"\n").rpartition(b"\t")
    try:
        if not tab or not is_signed(public, bytes.fromhex(signature.decode("ascii")), body):
            return None
        return msgspec.json.decode(body, type=kind)
    except (ValueError, msgspec.MsgspecError):
        return None


def peek_line(line: bytes, kind: type[T]) -> T | None:
    """The value without a look at its signature, which may be another's; None where the line has another form."""
    body, tab, _ = line.removesuffix(b"\n").rpartition(b"\t")
    try:
        return msgspec.json.decode(body, type=kind) if tab else None
    except (ValueError, msgspec.MsgspecError):
        return None
