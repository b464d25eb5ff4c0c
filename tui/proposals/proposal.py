"""One act before it is done: what it is about, how sure one must be, and what is sent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tui.sentence import Sentence, sentence
from tui.source import Role

REASON: Final = "Reason for audit:"

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """One line to fill in. exact: what must be typed, so that nobody does it by accident. required: not empty.

    file: it names a file of this host, whose text is in the values as `<name>.text`.
    """

    name: str
    label: str | Sentence
    value: str = ""
    exact: str | None = None
    required: bool = False
    file: bool = False

    def good(self, typed: str) -> bool:
        """Whether this will do."""
        typed = typed.strip()
        return typed == self.exact if self.exact is not None else bool(typed) or not self.required


def _no_words(answer: Any) -> tuple[Sentence, ...]:
    return ()


def _nothing(values: Values) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Proposal:
    """title: in capitals. verb: of the button. role: whose act it is; the appliance decides. facts: what to know first.

    action: as the audit log has it. resource: what it is about. path, body: of the admin API, from what was filled in.
    command: the same on the command line, without `appliance`. planned: what the plan's answer means; None where it is
    not planned, because it is of what is filled in. done: what the answer means. guarded: only while the credentials
    are those it was planned for. force: why the appliance wants to be forced, once it has said so.
    """

    title: str
    verb: str
    action: str
    resource: str
    role: Role
    path: str
    command: Callable[[Values], tuple[str, ...]]
    facts: tuple[Sentence, ...] = ()
    fields: tuple[Field, ...] = ()
    body: Callable[[Values], dict[str, Any]] = _nothing
    planned: Callable[[Any], tuple[Sentence, ...]] | None = _no_words
    done: Callable[[Any], tuple[Sentence, ...]] = _no_words
    # Names of the answer's fields that are shown once and never again.
    secrets: tuple[str, ...] = field(default=())
    guarded: bool = False
    force: str | None = None

    def asks_body(self, values: Values) -> dict[str, Any]:
        """What is sent."""
        made = self.body(values)
        return {**made, "force": True} if self.force is not None else made

    def defaults(self) -> dict[str, str]:
        """What is filled in already."""
        return {one.name: one.value for one in self.fields}


def forced(proposal: Proposal, why: str, exact: str) -> Proposal:
    """The same against the appliance's advice: what it says is shown, and a name must be typed."""
    typed = tuple(one for one in proposal.fields if one.exact is None)
    return replace(
        proposal,
        fields=(Field("exact", sentence("Type {word}:", word=exact), exact=exact), *typed),
        # What the plan says of an act that is in order is not so here.
        planned=_no_words,
        force=why,
        command=lambda values: (*proposal.command(values), "--force"),
    )
