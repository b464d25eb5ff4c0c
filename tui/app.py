"""The dashboard: the frame around seven screens, and what ties a source to them.

One worker follows the source and posts messages; the handlers here are the only writers of the board. What has changed
is painted once a tick, and of that only what is in sight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import ContentSwitcher

from appliance.errors import ApplianceError
from tui.acting import NOTE_SECONDS, Acting
from tui.board import Board, Note
from tui.choosing import Choosing
from tui.drawing import frame
from tui.drawing.disconnected import HINTS
from tui.drawing.lists import help_lines
from tui.export import Format, as_csv, as_jsonl, write_new
from tui.feed import Feed
from tui.glyphs import ASCII, UTF8
from tui.guard import LOOK_SECONDS, hear_signals, terminal_is_gone
from tui.key_help import binding_ids, keys_of
from tui.lines import Line, line, wrapped
from tui.look import Look
from tui.messages import Arrived, Gone, Introduced, Propose, Recalled, Said, ShowText, Surrounded
from tui.permission import offered
from tui.proposals.others import leave
from tui.replaying import PLAY_SECONDS, Fetched, Replaying
from tui.rescue import Rescue
from tui.screens.allow import Allow
from tui.screens.asking import AskingScreen
from tui.screens.audit import Audit
from tui.screens.confirm import Confirm
from tui.screens.keys import Keys
from tui.screens.logs import Logs
from tui.screens.models import Models
from tui.screens.overlay import Overlay
from tui.screens.overview import Overview
from tui.screens.palette import COMMANDS, Palette
from tui.screens.pick import Pick
from tui.screens.requests import Requests
from tui.screens.screen import DashboardScreen
from tui.source import Source
from tui.textual_themes import textual_themes
from tui.theme import THEMES, ThemeName
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog

RATES: Final = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Options:
    """How the dashboard was started.

    rate: paints per second at most. clock: seconds of any origin, that only grow; wall: UTC seconds since 1970.
    appliance: the options of the command line that name this appliance.
    """

    theme: ThemeName = "dark"
    read_only: bool = False
    rate: float = 1.0
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    appliance: tuple[str, ...] = ()


class Dashboard(App[None]):
    """The app."""

    TITLE = "LLM appliance"
    CSS_PATH = "dashboard.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number + 1), f"show({number})", "", show=False, id=f"screen.{number + 1}")
            for number in range(7)
        ),
        Binding("question_mark", "help", "this help", show=False, id="app.help"),
        Binding("a", "alerts", "alerts", show=False, id="app.alerts"),
        Binding("colon,ctrl+p", "commands", "commands", show=False, id="app.commands"),
        Binding("e", "export('csv')", "export this list as CSV", show=False, id="app.export"),
        Binding("p", "pause", "pause, or go on", show=False, id="app.pause"),
        Binding("plus,equals_sign", "rate(1)", "draw more often", show=False, id="app.faster"),
        Binding("minus", "rate(-1)", "draw less often", show=False, id="app.slower"),
        Binding("R", "retry", "try again now; back to what is now", show=False, id="app.retry"),
        Binding("t", "replay", "what it was like at a time", show=False, id="replay.time"),
        Binding("left_square_bracket", "replay_move(-1)", "a step back", show=False, id="replay.back"),
        Binding("right_square_bracket", "replay_move(1)", "a step on", show=False, id="replay.on"),
        Binding("left_curly_bracket", "replay_move(-60)", "a minute back", show=False, id="replay.minute_back"),
        Binding("right_curly_bracket", "replay_move(60)", "a minute on", show=False, id="replay.minute_on"),
        Binding("space", "replay_play", "play, or stop", show=False, id="replay.play"),
        Binding("q,ctrl+c,ctrl+q", "quit", "leave the dashboard", show=False, priority=False, id="app.quit"),
    ]

    def __init__(self, source: Source, look: Look, options: Options) -> None:
        super().__init__(ansi_color=True if options.theme == "ansi" else None)
        self.look = look
        self.board = Board(
            source.where, recorded=source.recorded, interval=source.interval, read_only=options.read_only
        )
        self._source = source
        self._options = options
        self._rate = options.rate
        self._feed = Feed(source, self.post_message)
        self._replaying = Replaying(self, source, self.post_message, options.wall)
        self._acting = Acting(self, source, options.clock)
        self._rescue = Rescue(self, source, self.post_message, options.appliance, options.wall)
        self._choosing = Choosing(self, source, self.post_message, self._acting, self._rescue)
        self._overview = Overview(look, self.board)
        self._requests = Requests(look, self.board, source.ask, wall=options.wall)
        self._models = Models(look, self.board, source.ask)
        self._logs = Logs(look, self.board)
        self._keys = Keys(look, self.board, source.ask, wall=options.wall)
        self._screens: tuple[DashboardScreen, ...] = (
            self._overview,
            self._models,
            self._requests,
            self._keys,
            Allow(look, self.board, source.ask, wall=options.wall),
            Audit(look, self.board, source.ask),
            self._logs,
        )
        self._chosen = 0
        # Whether the screens show figures of before.
        self._faded = False
        for theme in textual_themes():
            self.register_theme(theme)
        self.theme_name: ThemeName = options.theme
        self.theme = "ansi-dark" if options.theme == "ansi" else options.theme

    def compose(self) -> ComposeResult:
        """The frame; the screens are made with it, and one is in sight."""
        for name in ("title", "tabs", "strip"):
            yield LinesView(self.look, id=f"frame-{name}")
        with ContentSwitcher(initial="overview"):
            yield from self._screens
        for name in ("status", "keys"):
            yield LinesView(self.look, id=f"frame-{name}")

    def on_mount(self) -> None:
        """Begins to follow the source."""
        self._use_theme(self.theme_name)
        self._screens[0].enter()
        if not self.is_headless:
            hear_signals(self.exit)
            if not terminal_is_gone():
                # Where it is not the controlling terminal, nobody can tell.
                self.set_interval(LOOK_SECONDS, self._leave_if_alone)
        self.run_worker(self._feed.run(), name="feed", group="feed", exit_on_error=True)
        self._ticker = self.set_interval(1 / self._rate, self.paint)
        self.set_interval(PLAY_SECONDS, self._play_on)

    async def on_unmount(self) -> None:
        """The source is not asked any more."""
        await self._source.close()

    def _critical(self) -> set[tuple[str, str]]:
        """What rings the terminal's bell, once."""
        return {(alert.name, alert.what) for alert in self.board.firing if alert.severity == "critical"}

    def _leave_if_alone(self) -> None:
        if terminal_is_gone():
            self.exit()

    # What the feed says.

    def on_arrived(self, message: Arrived) -> None:
        """Known from now on; shown at the next tick, or at once where nothing was known."""
        first = self.board.snapshot is None or self.board.lost is not None
        known = self._critical()
        self.board.take(message.update, self._options.clock())
        if self._critical() - known:
            self.bell()
        if first:
            self.paint()

    def on_recalled(self, message: Recalled) -> None:
        """For the charts."""
        self.board.recall(message.snapshots)

    def on_introduced(self, message: Introduced) -> None:
        """For the title."""
        self.board.identity = message.identity

    def on_gone(self, message: Gone) -> None:
        """Shown at once: whatever else is on the screen is of before."""
        self.board.lose(message.reason, self._options.clock() + message.retry_seconds)
        self.paint()
        self.run_worker(self._rescue.look_around(), name="surroundings", group="surroundings", exclusive=True)

    def on_surrounded(self, message: Surrounded) -> None:
        """Shown at once."""
        self.board.surroundings, self.board.local = message.found, message.found is not None
        self.paint()

    def on_overview_diagnose(self) -> None:
        """As the command by that name."""
        self.action_diagnose()

    def action_diagnose(self) -> None:
        """In a process of its own: this one only looks."""
        self.run_worker(self._rescue.write_bundle(), name="act", group="acts")

    def on_overview_runbook(self) -> None:
        """What is to be done, from the handbook that is shipped."""
        self.run_worker(self._rescue.runbook("AppDown"), name="runbook", group="runbook", exclusive=True)

    # Keys.

    def action_show(self, number: int) -> None:
        """Brings another screen into sight."""
        self._chosen = number
        chosen = self._screens[number]
        self.query_one(ContentSwitcher).current = chosen.id
        chosen.enter()
        self.call_after_refresh(self.paint)

    def action_pause(self) -> None:
        """Holds what is shown, or goes on."""
        self.board.pause(not self.board.paused)
        self.paint()

    def action_rate(self, step: int) -> None:
        """Paints more or less often."""
        place = min(range(len(RATES)), key=lambda at: abs(RATES[at] - self._rate))
        self._rate = RATES[max(0, min(len(RATES) - 1, place + step))]
        self._ticker.stop()
        self._ticker = self.set_interval(1 / self._rate, self.paint)

    def action_retry(self) -> None:
        """Back to what is now; tries the source again at once."""
        if self._replaying.leave():
            self.paint()
        else:
            self._feed.retry_now()

    # The recording.

    def action_replay(self) -> None:
        """Asks for a time."""
        self.run_worker(self._replaying.ask(), name="act", group="acts")

    def action_replay_move(self, seconds: int) -> None:
        """Through the recording; back from now on, where what is now is shown."""
        moment = self._replaying.move(float(seconds))
        if moment is not None:
            self.run_worker(self._replaying.fetch(moment), name="replay", group="replay", exclusive=True)
        self.paint()

    def action_replay_play(self) -> None:
        """By itself, a second each second."""
        self._replaying.play()

    def on_fetched(self, message: Fetched) -> None:
        """Shown at once."""
        self._replaying.show(message.replay)
        self.paint()

    def _play_on(self) -> None:
        if self.board.replay is not None and self.board.replay.playing:
            self.action_replay_move(1)

    def action_help(self) -> None:
        """What the keys do here."""
        chosen = self._screens[self._chosen]
        keys = keys_of([chosen, *chosen.query(VirtualLog), self], self._keymap)
        self._over(self.look.say("KEYS"), help_lines(keys, self.look))

    def action_alerts(self) -> None:
        """All alerts, and what can be done about one."""
        self.run_worker(self._choosing.alert(), name="act", group="acts")

    def action_approvals(self) -> None:
        """What others wait for, and what one's own acts wait for."""
        self.run_worker(self._choosing.approval(), name="act", group="acts")

    def action_stored(self) -> None:
        """The models of the store, and what can be done about one."""
        self.run_worker(self._choosing.stored(), name="act", group="acts")

    def action_commands(self) -> None:
        """Everything that can be done, by name."""

        def chosen(action: str | None) -> None:
            if action is not None:
                self.run_worker(self.run_action(action), name="command")

        commands = [*COMMANDS, *self._screens[self._chosen].commands()]
        self.push_screen(Palette(commands, self.look, self.theme_name), chosen)

    def action_on_screen(self, name: str) -> None:
        """What a key of the screen in sight does, by name."""
        getattr(self._screens[self._chosen], f"action_{name}")()

    def action_export(self, form: Format) -> None:
        """The list in sight, as it is filtered and sorted, to a new file where the dashboard was started."""
        lists = list(self._screens[self._chosen].query(VirtualLog))
        chosen = next((one for one in lists if one.has_focus), lists[0] if lists else None)
        if chosen is None:
            self.post_message(Said(self.look.say("there is no list here: Requests, Models, Keys and others have one")))
            return
        titles, cells, rows = chosen.table()
        path = Path.cwd() / f"{chosen.id}-{self._stamp()}.{form}"
        try:
            write_new(path, as_csv(titles, cells) if form == "csv" else as_jsonl(rows))
        except ApplianceError as error:
            self.post_message(Said(str(error)))
        else:
            self.post_message(Said(f"{len(rows)} {self.look.say('rows in')} {path}"))

    def action_save_screenshot(self) -> None:
        """What is in sight, as a picture, to a file that is asked for."""
        # Few ever want it: it is imported where it is.
        from tui.screenshot import keep, svg_of

        name, svg = self._screens[self._chosen].id or "", svg_of(self)
        self.run_worker(keep(self, svg, name, self._stamp(), self.post_message), name="act", group="acts")

    def _stamp(self) -> str:
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._options.wall()))

    def action_find(self, text: str) -> None:
        """Requests that a filter takes."""
        self.action_show(self._screens.index(self._requests))
        self._requests.apply(text)

    def action_theme(self) -> None:
        """The next theme."""
        self._use_theme(THEMES[(THEMES.index(self.theme_name) + 1) % len(THEMES)])

    def action_language(self) -> None:
        """The other language."""
        self.look.language = "en" if self.look.language == "zh" else "zh"
        self._draw_anew()

    def action_glyphs(self) -> None:
        """ASCII alone, or all that the dashboard draws with."""
        self.look.glyphs = UTF8 if self.look.glyphs.ascii else ASCII
        self._draw_anew()

    def _draw_anew(self) -> None:
        """What was drawn is in the wrong words or glyphs, whether or not its figures have changed."""
        for view in self.query(LinesView):
            view.refresh()
        for log in self.query(VirtualLog):
            log.redraw()
        for one in self._screens:
            one.reword()
        self.paint()

    def on_show_text(self, message: ShowText) -> None:
        """Over the screen, until a key closes it."""
        self.show_text(message.title, message.text)

    def show_text(self, title: str, text: str) -> None:
        """Over the screen, until a key closes it; a line that is too long goes on below."""
        width = max(20, self.size.width * 9 // 10 - 4)
        folded = [part for one in text.splitlines() for part in wrapped(one, width)]
        self._over(title, [line(one) for one in folded])

    # Acts.

    def on_propose(self, message: Propose) -> None:
        """Asks first, and then does it, beside everything else."""
        self.run_worker(self._acting.propose(message.proposal), name="act", group="acts")

    def on_said(self, message: Said) -> None:
        """In the status line."""
        self.board.note = Note(message.text, "warn", self._options.clock() + NOTE_SECONDS)
        self.paint()

    async def ask_over(self, modal: ModalScreen[Any]) -> Any:
        """Shows a box, and waits for its answer."""
        return await self.push_screen_wait(modal)

    def answers_are_old(self) -> None:
        """What was asked of the appliance before is not true any more."""
        for one in self._screens:
            if isinstance(one, AskingScreen):
                one.forget()
        self.paint()

    async def action_quit(self) -> None:
        """Leaves; asks first while the appliance works on something."""
        if not self.board.acts:
            self.exit()
            return
        self.run_worker(self._leave(), name="act", group="acts")

    async def _leave(self) -> None:
        proposal = leave(self.board.acts)
        if await self.push_screen_wait(Confirm(proposal, (), self.look, self.theme_name, lambda: None)) is not None:
            self.exit()

    def on_overview_open_request(self, message: Overview.OpenRequest) -> None:
        """A failure among the requests."""
        self.action_show(self._screens.index(self._requests))
        self._requests.find(message.request_id)

    def on_requests_open_key(self, message: Requests.OpenKey) -> None:
        """The key of a request on its screen."""
        self.action_show(self._screens.index(self._keys))
        self._keys.find(message.key_id)

    def on_overview_open_model(self, message: Overview.OpenModel) -> None:
        """A model on its screen."""
        self.action_show(self._screens.index(self._models))
        self.paint()
        self._models.find(message.model)

    def on_resize(self, event: Resize) -> None:
        """Everything is drawn for the new size, once it is laid out."""
        self.call_after_refresh(self.paint)

    # Drawing.

    def paint(self) -> None:
        """Shows what the board knows; lines that are as they were cost nothing."""
        width, height = self.size
        if not width or not self.is_running:
            return
        small = width < frame.WIDTH_MIN or height < frame.HEIGHT_MIN
        self.screen.set_class(small, "small")
        if small:
            self._show("title", frame.too_small(width, height, self.look))
            return
        now = self._options.clock()
        self._requests.take(self.board.new_requests())
        self._logs.take(self.board.new_logs())
        self._overview.tail = self._requests.newest()
        chosen = self._screens[self._chosen]
        self._show("title", [frame.title(self.board, now, self._options.wall(), width, self.look)])
        self._show("tabs", [frame.tabs(self.board, self._chosen, width, self.look)])
        strip = frame.alert_strip(self.board, now, width, self.look)
        self.query_one("#frame-strip").display = strip is not None
        if strip is not None:
            self._show("strip", [strip])
        old = self.board.lost is not None
        if old is not self._faded:
            self._faded = old
            for one in self._screens[1:]:
                one.restyle(self.theme_name, old=old)
        chosen.paint(now)
        if self.board.lost is None:
            self._show("status", [self._status(chosen, now)])
            hints = [hint for hint in chosen.hints if offered(self.board, hint.role)]
            self._show("keys", [frame.key_line(hints, width, self.look)])
        else:
            said = self.look.say("all actions are disabled while disconnected")
            self._show("status", [line((f" {said}", "dim"))])
            hints = list(HINTS) if chosen is self._overview else [chosen.hints[0], HINTS[1], *chosen.hints[1:]]
            self._show("keys", [frame.key_line(hints, width, self.look)])

    def _status(self, chosen: DashboardScreen, now: float) -> Line:
        """What is under way, what came of the last act, or what the screen says."""
        note = self.board.note
        if self.board.acts:
            return line((f" {self.look.say('under way')}: {', '.join(self.board.acts)}", "accent"))
        if note is not None and now < note.until:
            return line((f" {note.text}", note.role))
        return chosen.status()

    def _over(self, title: str, lines: Sequence[Line]) -> None:
        self.push_screen(Overlay(title, lines, self.look, self.theme_name))

    def binding_ids(self) -> set[str]:
        """What a keymap can name."""
        return binding_ids([type(self), VirtualLog, Overlay, Pick, Palette, *(type(one) for one in self._screens)])

    def _use_theme(self, theme: ThemeName) -> None:
        self.theme_name = theme
        self.theme = "ansi-dark" if theme == "ansi" else theme
        for view in self.query(LinesView):
            view.restyle(theme)
        for one in self._screens:
            one.restyle(theme)

    def _show(self, name: str, lines: list[Line]) -> None:
        self.query_one(f"#frame-{name}", LinesView).show(lines)
