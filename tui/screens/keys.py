"""Keys and certificates: who may call, since when and until when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui import units
from tui.admin_data import ApiKeyRow, Certificate, Certificates, Issued, moment, read
from tui.board import Board
from tui.drawing.frame import KeyHint
from tui.drawing.key_use import key_lines, scope, short_limit, short_use, use_role
from tui.lines import Line, Role, line
from tui.look import Look
from tui.proposals import keys as proposals
from tui.screens.asking import Ask, AskingScreen
from tui.sentence import sentence
from tui.widgets.columns import Column
from tui.widgets.lines_view import LinesView
from tui.widgets.virtual_log import VirtualLog

_ROWS_MAX: Final = 20_000
_DAY: Final = 86_400.0
# From so many days before its end on a certificate is worth a look, and then an alarm.
_SOON_DAYS: Final = 30.0
_ALARM_DAYS: Final = 7.0
_STATE_WORDS: Final = {"retiring": "ROTATED", "retired": "RETIRED"}


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """One certificate, whatever it is for."""

    name: str
    role: str
    subject: str
    not_after: float | None
    note: str = ""
    issued: Issued | None = None


class Keys(AskingScreen):
    """wall: UTC seconds since 1970, against which ends are counted."""

    questions: ClassVar[tuple[str, ...]] = ("/keys", "/certificates")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "pane", "the other pane", show=False, id="pane.next"),
        Binding("n", "new", "a new key of this client", show=False, id="keys.new"),
        Binding("N", "new_client", "a new client", show=False, id="keys.new_client"),
        Binding("r", "rotate", "rotate the key; renew the server certificate", show=False, id="keys.rotate"),
        Binding("x", "revoke", "revoke it", show=False, id="keys.revoke"),
        Binding("X", "revoke_client", "revoke the whole client", show=False, id="keys.revoke_client"),
        Binding("y", "copy", "copy the id", show=False, id="keys.copy"),
        Binding("m", "import", "import a server certificate", show=False, id="certificates.import"),
        Binding("i", "request", "make a signing request", show=False, id="certificates.request"),
        Binding("A", "activate", "activate the staged certificate", show=False, id="certificates.activate"),
        Binding("B", "roll_back", "roll back the server certificate", show=False, id="certificates.rollback"),
    ]
    hints: ClassVar[tuple[KeyHint, ...]] = (
        KeyHint("?", "Help"),
        KeyHint("Tab", "Pane"),
        KeyHint("n", "New", role="security"),
        KeyHint("r", "Rotate", role="security"),
        KeyHint("x", "Revoke", role="security"),
        KeyHint("m", "Import", role="security"),
        KeyHint("A", "Activate", role="security"),
        KeyHint("N", "New client", wide=True, role="security"),
        KeyHint("p", "Pause", wide=True),
        KeyHint("q", "Quit", wide=True),
    )

    def __init__(self, look: Look, board: Board, ask: Ask, *, wall: Callable[[], float]) -> None:
        super().__init__(look, board, ask, id="keys")
        self._wall = wall
        self._keys: tuple[ApiKeyRow, ...] = ()
        self._found: Certificates | None = None
        # The key that the cursor is to go to.
        self._wanted: str | None = None
        self.key_rows: VirtualLog[ApiKeyRow] = VirtualLog(
            self._key_columns(), look, rows_max=_ROWS_MAX, identity=lambda row: row.kid, id="key-rows"
        )
        self.certificate_rows: VirtualLog[CertificateRow] = VirtualLog(
            self._certificate_columns(),
            look,
            rows_max=_ROWS_MAX,
            identity=lambda row: (row.name, row.role, "" if row.issued is None else row.issued.serial),
            id="certificate-rows",
        )

    def compose(self) -> ComposeResult:
        """Keys above, certificates below."""
        yield LinesView(self.look, id="keys-title")
        yield self.key_rows
        yield LinesView(self.look, id="keys-detail")
        yield LinesView(self.look, id="certificates-title")
        yield self.certificate_rows
        yield LinesView(self.look, id="certificates-note")

    def enter(self) -> None:
        """Keys come to the keys."""
        self.screen.set_focus(self.key_rows)

    def find(self, kid: str) -> None:
        """Puts the cursor on a key, now or once the keys are known."""
        self._wanted = kid
        found = self.key_rows.ring.find(0, 1, lambda key: key.kid == kid)
        if found is not None:
            self._wanted = None
            self.key_rows.go(found)

    def action_pane(self) -> None:
        """To the other list."""
        self.screen.set_focus(self.certificate_rows if self.key_rows.has_focus else self.key_rows)

    def action_new(self) -> None:
        """For the client of the key under the cursor."""
        key = self.key_rows.selected
        self.propose(proposals.new_key("" if key is None else key.principal))

    def action_new_client(self) -> None:
        """With certificate and key."""
        self.propose(proposals.new_client())

    def action_rotate(self) -> None:
        """What has the cursor: a key, or the server certificate."""
        if self.certificate_rows.has_focus:
            self.propose(proposals.renew_server())
        elif (key := self.key_rows.selected) is not None:
            self.propose(proposals.rotate_key(key))

    def action_revoke(self) -> None:
        """What has the cursor: a key, or a certificate that was signed here."""
        if self.certificate_rows.has_focus:
            row = self.certificate_rows.selected
            if row is not None and row.issued is not None:
                self.propose(proposals.revoke_certificate(row.issued))
            else:
                self.say("only certificates of clients and administrators can be revoked here")
        elif (key := self.key_rows.selected) is not None:
            self.propose(proposals.revoke_key(key))

    def action_revoke_client(self) -> None:
        """Whose key has the cursor."""
        if (key := self.key_rows.selected) is not None:
            self.propose(proposals.revoke_client(key.principal))

    def action_copy(self) -> None:
        """The id of the key, or the serial number of the certificate."""
        key, row = self.key_rows.selected, self.certificate_rows.selected
        if self.certificate_rows.has_focus:
            text = None if row is None or row.issued is None else row.issued.serial
        else:
            text = None if key is None else key.kid
        if text:
            self.copy(text)

    def action_import(self) -> None:
        """Of another authority."""
        self.propose(proposals.import_server())

    def action_request(self) -> None:
        """For another authority."""
        self.propose(proposals.request_server())

    def action_activate(self) -> None:
        """What is staged."""
        if self._found is None or self._found.server.staged is None:
            self.say("no certificate is staged: r makes one, m imports one")
        else:
            self.propose(proposals.activate_server(self._found.server.staged.subject))

    def action_roll_back(self) -> None:
        """To the certificate of before."""
        if self._found is None or self._found.server.previous is None:
            self.say("there is no certificate of before")
        else:
            self.propose(proposals.roll_back_server())

    def commands(self) -> tuple[tuple[str, str], ...]:
        """What its keys do, by name."""
        return (
            ("New key of this client", "on_screen('new')"),
            ("New client", "on_screen('new_client')"),
            ("Rotate key, renew certificate", "on_screen('rotate')"),
            ("Revoke", "on_screen('revoke')"),
            ("Revoke the whole client", "on_screen('revoke_client')"),
            ("Import a server certificate", "on_screen('import')"),
            ("Make a signing request", "on_screen('request')"),
            ("Activate the staged certificate", "on_screen('activate')"),
            ("Roll back the server certificate", "on_screen('roll_back')"),
        )

    def paint(self, now: float) -> None:
        """Asks where it is time to."""
        self.ask_again(now)
        look = self.look
        width = self.size.width
        none = look.say("No key yet. Make one: appliance clients add NAME")
        self.key_rows.empty = self.no_rows("/keys", none)
        self.certificate_rows.empty = self.no_rows("/certificates", "")
        counts = [
            f"{count} {look.say(word)}"
            for state, word in (("active", "active"), ("expired", "expired"), ("retiring", "in grace"))
            if (count := sum(key.state == state for key in self._keys))
        ]
        title = line((f" {look.say('API KEYS')}", "head"), f"  {', '.join(counts)}")
        self.query_one("#keys-title", LinesView).show([title])
        self._show_key()
        self.query_one("#certificates-title", LinesView).show(
            [((look.glyphs.rule * width, "dim"),), line((f" {look.say('CERTIFICATES')}", "head"))]
        )
        self.query_one("#certificates-note", LinesView).show([self._staged_line()])

    def status(self) -> Line:
        """Whether dates can be trusted."""
        if self.trouble is not None:
            return line((f" {self.trouble}", "warn"))
        synced = None if self.board.snapshot is None else self.board.snapshot.host.clock_synchronized
        if synced is None:
            return line((f" {self.look.say('clock synchronised: not known')}", "dim"))
        if synced:
            return line(f" {self.look.say('clock synchronised: yes (expiry dates can be trusted)')}")
        return line((f" {self.look.say('clock synchronised: NO (expiry dates may be wrong)')}", "bad"))

    def answered(self, path: str, answer: Any) -> None:
        """Keys or certificates."""
        if path == "/keys":
            self._keys = read(tuple[ApiKeyRow, ...], answer)
            self.key_rows.replace(self._keys)
            if self._wanted is not None:
                self.find(self._wanted)
                self._wanted = None
        else:
            found = read(Certificates, answer)
            self.certificate_rows.replace(tuple(_rows(found)))
            self._found = found
            self.query_one("#certificates-note", LinesView).show([self._staged_line()])

    def on_virtual_log_moved(self, message: VirtualLog.Moved) -> None:
        """What the key under the cursor may do, and has done."""
        message.stop()
        self._show_key()

    def _show_key(self) -> None:
        self.query_one("#keys-detail", LinesView).show(key_lines(self.key_rows.selected, self.size.width, self.look))

    def _staged_line(self) -> Line:
        found = self._found
        if found is None:
            return ()
        if found.server.requested:
            return line(f"   {self.look.say('a signing request waits for its certificate')}")
        staged = found.server.staged
        if staged is None:
            return ()
        until = units.date_minute(moment(staged.not_after) or 0.0, self.look.zone)[:10]
        say = self.look.say
        return line(f"   {say('staged')}: {staged.subject} {say('until')} {until}; {say('A activates it')}")

    def _key_columns(self) -> tuple[Column[ApiKeyRow], ...]:
        look = self.look
        return (
            Column("ID", 12, lambda key: key.kid, width_max=14),
            Column("PRINCIPAL", 13, lambda key: look.name(key.principal, key.kid), width_max=30),
            Column("LABEL", 12, lambda key: key.label or units.NONE, width_max=24, rank=2),
            Column("SCOPE", 12, lambda key: scope(key, look), width_max=36, rank=1),
            Column("LIMIT", 7, lambda key: short_limit(key, look), width_max=10),
            Column("24H", 8, short_use, role=use_role),
            Column("LAST USED", 9, self._last_used),
            Column("EXPIRES", 10, self._expires, role=self._expiry_role),
            Column("STATE", 10, self._key_state, role=_key_role),
        )

    def _certificate_columns(self) -> tuple[Column[CertificateRow], ...]:
        look = self.look
        return (
            Column("NAME", 12, lambda row: row.name, width_max=24),
            Column("ROLE", 12, lambda row: look.say(row.role)),
            Column("SUBJECT / SAN", 24, lambda row: row.subject, width_max=60, rank=1),
            Column(
                "NOT AFTER",
                16,
                lambda row: units.NONE if row.not_after is None else units.date_minute(row.not_after, look.zone),
            ),
            Column("LEFT", 8, self._left, role=self._left_role),
        )

    def _last_used(self, key: ApiKeyRow) -> str:
        used = moment(key.last_used)
        return self.look.say("never") if used is None else self.look.ago(max(0.0, self._wall() - used))

    def _expires(self, key: ApiKeyRow) -> str:
        until = moment(key.works_until)
        if until is None:
            return self.look.say("never") + " !"
        left = until - self._wall()
        if left < 0:
            return self.look.ago(-left)
        if key.state == "retiring":
            return f"{self.look.say('grace')} {units.duration(left)}"
        return self.look.say(sentence("in {time}", time=_days(left)))

    def _expiry_role(self, key: ApiKeyRow) -> Role:
        until = moment(key.works_until)
        return "warn" if until is None or until - self._wall() < 14 * _DAY else ""

    def _key_state(self, key: ApiKeyRow) -> str:
        word = _STATE_WORDS.get(key.state, key.state.upper())
        return self.look.say(word) + (" !" if key.state == "expired" else "")

    def _left(self, row: CertificateRow) -> str:
        if row.not_after is None:
            return units.NONE
        left = row.not_after - self._wall()
        mark = " !!" if left < _ALARM_DAYS * _DAY else " !" if left < _SOON_DAYS * _DAY else ""
        return (units.duration(left) if left > 0 else self.look.say("over")) + mark

    def _left_role(self, row: CertificateRow) -> Role:
        if row.not_after is None:
            return ""
        left = row.not_after - self._wall()
        return "bad" if left < _ALARM_DAYS * _DAY else "warn" if left < _SOON_DAYS * _DAY else ""


def _rows(found: Certificates) -> Iterator[CertificateRow]:
    yield _row("server", "api tls", found.server.active)
    if found.server.staged is not None:
        yield _row("server", "staged", found.server.staged)
    for authority in found.authorities:
        note = "" if authority.phase == "standby" else authority.phase
        yield _row(f"{authority.name} CA", note or "authority", authority.current)
        if authority.successor is not None:
            yield _row(f"{authority.name} CA", "successor", authority.successor)
    for trusted in found.trusted:
        yield _row("trusted", "authority", trusted)
    for issued in found.issued:
        yield CertificateRow(issued.name, issued.kind, issued.state, moment(issued.not_after), issued=issued)


def _row(name: str, role: str, certificate: Certificate) -> CertificateRow:
    names = f" +{len(certificate.names)} SAN" if certificate.names else ""
    return CertificateRow(name, role, certificate.subject + names, moment(certificate.not_after))


def _key_role(key: ApiKeyRow) -> Role:
    return {"active": "good", "retiring": "warn", "expired": "bad", "revoked": "bad"}.get(key.state, "dim")  # type: ignore[return-value]


def _days(seconds: float) -> str:
    return f"{seconds / _DAY:.0f}d" if seconds >= _DAY else units.duration(seconds)
