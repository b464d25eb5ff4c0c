"""Answers that are too large to be written as JSON while the event loop waits."""

from __future__ import annotations

import io
from collections.abc import Iterable

import msgspec


def large_answer(name: str, items: Iterable[object], **others: object) -> bytes:
    """`{"<name>": [<items>], <others>}` as JSON. Blocking: for a thread.

    One item at a time, because msgspec lets no other thread run within one call.
    """
    encode, out = msgspec.json.encode, io.BytesIO()
    out.write(b"{%b:[" % encode(name))
    for number, item in enumerate(items):
        out.write(b"," if number else b"")
        out.write(encode(item))
    out.write(b"]")
    for field, value in others.items():
        out.write(b",%b:%b" % (encode(field), encode(value)))
    out.write(b"}")
    return out.getvalue()
