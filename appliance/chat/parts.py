"""What an answer is made of, in the order in which the model wrote it."""

from __future__ import annotations

from msgspec import Struct


class Content(Struct, frozen=True):
    """Text for the reader. unparsed_call: it began as a call of a tool, and is none that can be made."""

    text: str
    unparsed_call: bool = False


class Reasoning(Struct, frozen=True):
    """What the model thought before it answered."""

    text: str


class Call(Struct, frozen=True):
    """One whole call of a tool that the request named. arguments: the text of a JSON object."""

    name: str
    arguments: str


Part = Content | Reasoning | Call


def joined(parts: list[Part]) -> list[Part]:
    """The same with neighbours of one kind made one, so that an answer looks alike however it was cut."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, Reasoning) and isinstance(last, Reasoning):
            out[-1] = Reasoning(last.text + part.text)
        elif isinstance(part, Content) and isinstance(last, Content) and part.unparsed_call == last.unparsed_call:
            out[-1] = Content(last.text + part.text, part.unparsed_call)
        else:
            out.append(part)
    return out
