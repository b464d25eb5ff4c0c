"""Carries out what somebody proposes: the plan, the question, the act, and what came of it.

Each runs as a worker of the app. What is sent belongs to what was on the screen when the key was pressed: it does not
follow the cursor.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from textual.screen import ModalScreen

from appliance.safe_text import safe_lines, safe_text
from tui.board import Board, Note
from tui.look import Look
from tui.permission import why_not
from tui.proposals.proposal import Proposal, forced
from tui.screens.confirm import Confirm
from tui.screens.second_person import SecondPerson
from tui.screens.told_once import ToldOnce
from tui.source import Act, ActRefused, Planned, Source
from tui.theme import ThemeName

NOTE_SECONDS: Final = 12.0
# What is longer is shown in a box of its own too.
_LINE_CHARS: Final = 76
_APPROVAL: Final = re.compile(r"approvals approve ([0-9A-Za-z_-]{1,64})")


class Stage(Protocol):
    """What it needs of the app."""

    board: Board
    look: Look
    theme_name: ThemeName

    async def ask_over(self, modal: ModalScreen[Any]) -> Any:
        """Shows a box, and waits for its answer."""
        ...

    def show_text(self, title: str, text: str) -> None:
        """Over the screen; it is safe to show."""
        ...

    def paint(self) -> None:
        """What has changed is shown now."""
        ...

    def answers_are_old(self) -> None:
        """What was asked of the appliance before is not true any more."""
        ...


class Acting:
    """clock: the dashboard's."""

    def __init__(self, app: Stage, source: Source, clock: Callable[[], float]) -> None:
        self._app = app
        self._source = source
        self._clock = clock

    async def propose(self, proposal: Proposal) -> None:
        """From the key to the answer. In a worker."""
        app = self._app
        why = self._why_not()
        if why is not None:
            self._say(why, "warn")
            return
        planned: Planned | None = None
        if proposal.planned is not None:
            try:
                planned, proposal = await self._plan(proposal)
            except ActRefused as refused:
                self._refuse(proposal, refused)
                return
        said = () if planned is None or proposal.planned is None else proposal.planned(planned.answer)
        shown = [safe_text(app.look.say(one)) for one in said]
        values = await app.ask_over(Confirm(proposal, shown, app.look, app.theme_name, self._why_not))
        if values is None:
            self._say(f"{proposal.action}: {app.look.say('nothing was done')}", "")
            return
        act = Act(
            path=proposal.path,
            key=uuid.uuid4().hex,
            body=proposal.asks_body(values),
            generation=planned.generation if planned is not None and proposal.guarded else None,
        )
        await self._do(proposal, act)

    async def _plan(self, proposal: Proposal) -> tuple[Planned, Proposal]:
        body = proposal.asks_body(proposal.defaults())
        try:
            return await self._source.plan(proposal.path, body), proposal
        except ActRefused as refused:
            if refused.code != "needs_force":
                raise
            # It would do harm: what harm is said, and it takes a name to do it all the same.
            sure = forced(proposal, safe_text(str(refused), 1000), proposal.resource)
        return await self._source.plan(sure.path, sure.asks_body(sure.defaults())), sure

    async def _do(self, proposal: Proposal, act: Act) -> None:
        app, what = self._app, f"{proposal.action} {safe_text(proposal.resource)}"
        while True:
            app.board.acts.append(what)
            app.paint()
            began = self._clock()
            try:
                answer = await self._source.act(act)
            except ActRefused as refused:
                approval = _APPROVAL.search(str(refused))
                if refused.code == "needs_approval" or act.approval is not None:
                    waits_for = approval[1] if approval else act.approval or "-"
                    if await self._again(waits_for, refused):
                        act = _agreed(act, waits_for)
                        continue
                self._refuse(proposal, refused)
                return
            finally:
                app.board.acts.remove(what)
            self._tell(proposal, answer, self._clock() - began)
            secrets = {name: answer[name] for name in proposal.secrets if name in answer}
            if secrets:
                shown = _flat(secrets)
                await app.ask_over(ToldOnce(app.look.say(proposal.title), shown, app.look, app.theme_name))
            app.answers_are_old()
            return

    async def _again(self, approval: str, refused: ActRefused) -> bool:
        app = self._app
        modal = SecondPerson(approval, safe_text(str(refused), 1000), app.look, app.theme_name)
        return bool(await app.ask_over(modal))

    def _why_not(self) -> str | None:
        return why_not(self._app.board, self._clock(), self._app.look)

    def _tell(self, proposal: Proposal, answer: Any, seconds: float) -> None:
        say = self._app.look.say
        said = [safe_text(say(one)) for one in proposal.done(answer)]
        first = f"{proposal.action} {safe_text(proposal.resource)}: ok {seconds:.1f}s"
        self._say("; ".join([first, *said[:2]]), "good")
        if len(said) > 2:
            self._app.show_text(say(proposal.title), "\n".join(said))

    def _refuse(self, proposal: Proposal, refused: ActRefused) -> None:
        """In the status line, and in full where that has no room for it."""
        text = f"{proposal.action} {safe_text(proposal.resource)}: {safe_text(str(refused), 1000)}"
        self._say(text, "bad")
        if len(text) > _LINE_CHARS:
            self._app.show_text(self._app.look.say("REFUSED"), text)

    def _say(self, text: str, role: Any) -> None:
        self._app.board.note = Note(text, role, self._clock() + NOTE_SECONDS)
        self._app.paint()


def _agreed(act: Act, approval: str) -> Act:
    """The same act with a second person's agreement: a new one for the appliance, which refused the first."""
    return Act(path=act.path, key=uuid.uuid4().hex, body=act.body, generation=act.generation, approval=approval)


def _flat(secrets: Mapping[str, Any]) -> dict[str, str]:
    """Secrets by name; a bundle is its files."""
    found: dict[str, str] = {}
    for name, value in secrets.items():
        if isinstance(value, Mapping):
            found.update({safe_text(str(key)): safe_lines(str(text)) for key, text in value.items()})
        else:
            found[name] = safe_lines(str(value))
    return found
