"""Lists over the screen, and what is done about the row that somebody picks: alerts, approvals, the store."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message

from appliance.errors import ApplianceError
from appliance.safe_text import safe_text
from tui.acting import Acting, Stage
from tui.admin_data import Store, StoredModel, read
from tui.drawing.lists import alert_lines, approval_lines, in_order
from tui.drawing.store_rows import store_rows
from tui.ingest import safe
from tui.messages import Said
from tui.permission import offered
from tui.proposals.others import ack, approve, silence
from tui.proposals.store import remove, verify
from tui.rescue import Rescue
from tui.screens.pick import Pick
from tui.source import Source


class Choosing:
    """Its methods each run as a worker of the app."""

    def __init__(
        self, app: Stage, source: Source, post: Callable[[Message], object], acting: Acting, rescue: Rescue
    ) -> None:
        self._app = app
        self._source = source
        self._post = post
        self._acting = acting
        self._rescue = rescue

    async def alert(self) -> None:
        """All alerts, and what can be done about one."""
        app, look = self._app, self._app.look
        alerts = in_order(() if app.board.snapshot is None else app.board.snapshot.alerts)
        keys = {"enter": "what to do"}
        if offered(app.board, "operator") or offered(app.board, "security"):
            keys |= {"c": "acknowledge", "s": "silence for an hour"}
        rows = [alert_lines(one, look) for one in alerts]
        picked = await app.ask_over(Pick(look.say("ALERTS"), rows, keys, look.say("No alert"), look, app.theme_name))
        if picked is None:
            return
        alert = alerts[picked.place]
        if picked.key == "enter":
            await self._rescue.runbook(alert.name)
        else:
            await self._acting.propose(ack(alert) if picked.key == "c" else silence(alert))

    async def stored(self) -> None:
        """The models of the store; whether their files are whole."""
        app, look = self._app, self._app.look
        try:
            store = read(Store, await self._source.ask("/store"))
        except ApplianceError as error:
            self._post(Said(safe_text(str(error), 400)))
            return
        keys = {"v": "verify", "x": "remove"} if offered(app.board, "operator") else {}
        empty = look.say("No model is imported: appliance models import FILE")
        title = look.say("MODELS OF THE STORE")
        picked = await app.ask_over(Pick(title, store_rows(store, look), keys, empty, look, app.theme_name))
        if picked is None:
            return
        chosen = (*store.models, *store.quarantined)[picked.place]
        if picked.key == "x":
            await self._acting.propose(remove(chosen))
        elif isinstance(chosen, StoredModel):
            await self._acting.propose(verify(chosen))
        else:
            self._post(Said(look.say("what is in quarantine can only be removed, or imported again")))

    async def approval(self) -> None:
        """What others wait for, and what one's own acts wait for."""
        app, look = self._app, self._app.look
        try:
            found = safe(await self._source.ask("/approvals"), 2000)
        except ApplianceError as error:
            self._post(Said(safe_text(str(error), 400)))
            return
        keys = {} if app.board.recorded or app.board.read_only else {"enter": "agree", "x": "reject"}
        rows = [approval_lines(one, look) for one in found]
        empty = look.say("nobody waits for a second person")
        picked = await app.ask_over(Pick(look.say("APPROVALS"), rows, keys, empty, look, app.theme_name))
        if picked is not None:
            await self._acting.propose(approve(found[picked.place], picked.key == "enter"))
