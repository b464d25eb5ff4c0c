"""What every command shares: the appliance it is for, and how answers are printed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import typer

from appliance.admin_client import AdminClient, AdminError, is_served, route
from appliance.admin_endpoint import AdminEndpoint
from appliance.cli.layout import facts, records, table
from appliance.cli.options import DEFAULT_STATE, REMOTE_ENV, ConfigOption, How, StateOption
from appliance.config import load_config
from appliance.errors import ApplianceError, ConfigError, StateError
from appliance.safe_text import safe_lines, safe_text
from appliance.state_dir import StateDir, replacing

DEFAULT_CONFIG: Final = Path("/etc/appliance/appliance.yaml")
DEFAULT_SOCKET: Final = Path("/run/appliance/admin.sock")
LOOK_SECONDS: Final = 0.25
WATCH_SECONDS: Final = 1.0
_AS_IT_IS: Final = How()
_INTERRUPTED: Final = "interrupted; it may have been done all the same, so look before repeating it"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Appliance:
    """The appliance that a command is for, as its options name it: asked and changed through its admin API.

    That is the daemon's, of this state directory or where APPLIANCE_ADMIN_URL says; where no daemon runs, the command
    serves it to itself.
    """

    state_dir: StateOption = DEFAULT_STATE
    config: ConfigOption = None

    def ask(self, path: str, **query: str | int | None) -> Any:
        """The answer to a question. Raises ApplianceError."""
        return self._work(lambda admin: admin.get(path, **query))

    def ask_each(self, questions: Mapping[str, tuple[str, Mapping[str, str | int]]]) -> dict[str, Any]:
        """Several answers, by name; a question that is refused is answered with its error. Raises ApplianceError."""

        async def work(admin: AdminClient) -> dict[str, Any]:
            answers: dict[str, Any] = {}
            for name, (path, query) in questions.items():
                try:
                    answers[name] = await admin.get(path, **query)
                except AdminError as refused:
                    if refused.code == "unreachable":
                        raise
                    answers[name] = {"error": str(refused)}
            return answers

        return self._work(work)

    def act(self, path: str, body: Mapping[str, object] | None = None, how: How = _AS_IT_IS) -> Any:
        """Does something, or says what would happen, and at which generation it is said. Raises ApplianceError."""

        async def work(admin: AdminClient) -> tuple[Any, int]:
            answer = await admin.post(path, body, plan=how.plan, approval=how.approval, generation=how.generation)
            return answer, admin.generation

        answer, generation = self._work(work)
        if how.plan:
            typer.echo(f"planned at generation {generation}: --if-generation {generation} holds it to that", err=True)
        return answer

    def act_if_agreed(self, question: str, path: str, body: Mapping[str, object] | None, how: How, *, yes: bool) -> Any:
        """The same once the operator agrees, who is not asked about what cannot be done. Raises ApplianceError."""
        if not (yes or how.plan):
            self._work(lambda admin: admin.post(path, body, plan=True, generation=how.generation))
            confirm(question)
        return self.act(path, body, how)

    def attend(self, path: str, body: Mapping[str, object], how: How, look: Callable[[Mapping[str, Any]], None]) -> Any:
        """Begins a job and waits for its end, with a look at it now and then; its result. Raises ApplianceError.

        Ctrl-C cancels it.
        """

        async def work(admin: AdminClient) -> Any:
            job = await admin.post(path, body, plan=how.plan, approval=how.approval, generation=how.generation)
            if how.plan:
                return job
            try:
                while job["state"] not in ("done", "failed"):
                    look(job)
                    await asyncio.sleep(LOOK_SECONDS)
                    job = await admin.get(route("jobs", job["id"]))
            except asyncio.CancelledError:
                await admin.post(route("jobs", job["id"], "cancel"))
                typer.echo(f"appliance: the {job['kind']} of {job['name']} is cancelled", err=True)
                raise typer.Exit(130) from None
            look(job)
            if job["state"] == "failed":
                raise AdminError("failed", job["error"])
            return job["result"]

        return self._work(work)

    def watch(self, path: str, look: Callable[[Any], Mapping[str, int] | None], **query: str | int | None) -> None:
        """Asks again and again, a second apart, until it is interrupted. Raises ApplianceError.

        look: may change the next question.
        """

        async def work(admin: AdminClient) -> None:
            while True:
                query.update(look(await admin.get(path, **query)) or {})
                await asyncio.sleep(WATCH_SECONDS)

        try:
            self._work(work, interrupted="")
        except typer.Exit:
            return

    def download(self, path: str, out: Path, **query: str | int | None) -> None:
        """Writes an answer to the new file `out`, all of it or nothing. Raises ApplianceError."""

        async def work(admin: AdminClient) -> None:
            try:
                with replacing(out) as file:
                    async for chunk in admin.download(path, **query):
                        file.write(chunk)
            except OSError as error:
                raise StateError(f"{out}: cannot be written: {error.strerror}") from error

        self._work(work, interrupted="interrupted; nothing was written")

    def found_and_ask(self, path: str) -> Any:
        """The answer to a question; where there is no appliance yet, one is made. Raises ApplianceError."""
        return self._work(lambda admin: admin.get(path), create=True)

    def _work(
        self, work: Callable[[AdminClient], Awaitable[T]], *, create: bool = False, interrupted: str = _INTERRUPTED
    ) -> T:
        async def run() -> T:
            async with self._client(create=create) as client:
                return await work(client)

        try:
            return asyncio.run(run())
        except KeyboardInterrupt:
            if interrupted:
                typer.echo(f"appliance: {interrupted}", err=True)
            raise typer.Exit(130) from None

    def endpoint(self) -> AdminEndpoint:
        """Where its daemon answers, or would: for who waits until it does. Raises ConfigError."""
        remote = os.environ.get(REMOTE_ENV)
        if remote:
            return AdminEndpoint(url=remote, bundle=os.environ.get("APPLIANCE_ADMIN_BUNDLE", ""))
        own = state_of(self.state_dir).run / "admin.sock"
        places = [own]
        if self.state_dir == DEFAULT_STATE and self.config is None:
            places.insert(0, DEFAULT_SOCKET)
        closed: ConfigError | None = None
        for place in places:
            try:
                if _served(place):
                    return AdminEndpoint(socket=str(place))
            except ConfigError as error:
                closed = error
        try:
            named = load_config(existing(self.config, DEFAULT_CONFIG)).admin.socket
        except ConfigError:
            # It may be what is to be mended, or not for this user to read.
            named = None
        if named is not None:
            return AdminEndpoint(socket=named)
        if closed is not None:
            raise closed
        return AdminEndpoint(socket=str(next((place for place in places if place.parent.is_dir()), own)))

    def _client(self, *, create: bool) -> AbstractAsyncContextManager[AdminClient]:
        remote = os.environ.get(REMOTE_ENV)
        if remote:
            return AdminClient.remote(remote, _admin_context())
        state = state_of(self.state_dir)
        # Before appliance.yaml, which not every administrator may read, and which may be what is to be mended.
        if self.state_dir == DEFAULT_STATE and self.config is None and _served(DEFAULT_SOCKET):
            return AdminClient.local(DEFAULT_SOCKET)
        own = state.run / "admin.sock"
        closed: ConfigError | None = None
        try:
            if _served(own):
                return AdminClient.local(own)
        except ConfigError as error:
            # The state directory is its user's alone; the socket for others is one that appliance.yaml names.
            closed = error
        settings_path = existing(self.config, DEFAULT_CONFIG)
        try:
            settings = load_config(settings_path)
        except ConfigError as error:
            if error.line is None:
                raise
            # A daemon may run all the same: the file is read to find its socket.
            raise ConfigError(f"{error}; until it is mended, name a good copy with --config") from error
        if settings.admin.socket is not None and _served(Path(settings.admin.socket)):
            return AdminClient.local(Path(settings.admin.socket))
        if closed is not None:
            if settings.admin.socket is None:
                raise closed
            raise ConfigError(
                f"no daemon answers at {settings.admin.socket}, and {state.path} is closed to this user; start the "
                "appliance, or run the command as the user that it runs as"
            ) from closed
        # Imported here: most commands talk to a daemon and should not wait for all that one is made of.
        from appliance.offline import offline_admin

        folder = Path.cwd() if settings_path is None else settings_path.resolve().parent
        return offline_admin(state, settings, folder, dict(os.environ), create=create)


def state_of(path: Path) -> StateDir:
    """The state directory; the present folder is not one, it is what an unset shell variable gives."""
    if path == Path():
        raise ConfigError("--state-dir needs a folder of its own, not the present one")
    return StateDir(path)


def existing(given: Path | None, *defaults: Path) -> Path | None:
    """What was asked for, else the first default that exists. Raises ConfigError where this user may not look."""
    if given is not None:
        return given
    for path in defaults:
        try:
            if path.exists():
                return path
        except PermissionError as error:
            raise ConfigError(f"{path}: this user may not look there; ask its owner, or name another file") from error
    return None


def _served(path: Path) -> bool:
    """Whether a daemon listens on this socket. Raises ConfigError where this user may not know."""
    try:
        return is_served(path)
    except PermissionError as error:
        raise ConfigError(
            f"{path} is closed to this user; ask for a Unix group of admin.groups and for one that may open the admin "
            "socket (admin.socket in appliance.yaml), or run the command as the user that the appliance runs as"
        ) from error
    except OSError:
        # No socket can have this path.
        return False


def _admin_context() -> ssl.SSLContext:
    from appliance.security.tls import client_context

    bundle = Path(os.environ.get("APPLIANCE_ADMIN_BUNDLE", ""))
    try:
        return client_context(bundle, "admin")
    except StateError as error:
        raise ConfigError(f"APPLIANCE_ADMIN_BUNDLE: {error}") from error


def confirm(question: str) -> None:
    """Ends the command unless the operator agrees."""
    try:
        typer.echo(f"{safe_text(question)} [y/N]: ", nl=False, err=True)
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        typer.echo(err=True)
    if answer.strip().lower() not in ("y", "yes"):
        raise ApplianceError("nothing was changed; answer y, or give --yes")


def complain(error: Exception) -> None:
    """Says what went wrong, and what to do next."""
    typer.echo(f"appliance: {safe_lines(str(error))}", err=True)


def print_json(answer: object) -> None:
    """An answer as it came, in ASCII."""
    typer.echo(json.dumps(answer, indent=2).replace("\x7f", "\\u007f"))


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Rows of plain values."""
    typer.echo(table(columns, rows, _width()))


def print_records(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """The same, one fact per line."""
    typer.echo(records(columns, rows))


def print_facts(found: Mapping[str, object]) -> None:
    """Nested plain data."""
    typer.echo(facts(found, _width()))


def _width() -> int | None:
    """Of the terminal; None in a pipe, whose reader wants whole lines."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def ended(answer: Mapping[str, object]) -> str:
    """How many connections a change has ended."""
    return f"{answer['cut']} connection{'' if answer['cut'] == 1 else 's'} ended"


def revoked(answer: Mapping[str, object], how: How) -> str:
    """The same for a revocation."""
    return f"{'would be revoked' if how.plan else 'revoked'}; {ended(answer)}"


def minute(text: str | None) -> str:
    """A time of an answer for a column that says UTC; nothing where there is none."""
    return "" if text is None else moment(text).removesuffix(" UTC")


def point_in_time(text: str | None) -> str | None:
    """An option's point in time, or so long ago, as the admin API reads it. Raises ConfigError."""
    if text is None:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdigit() and text[-1:] in units:
        return (datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})).isoformat()
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no time; write 2026-11-25T18:00 (UTC), 24h or 7d") from None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).isoformat()


def moment(text: str | None, precision: Literal["minutes", "seconds"] = "minutes") -> str:
    """A time of an answer."""
    if text is None:
        return "-"
    time = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).replace(tzinfo=None)
    return f"{time.isoformat(' ', precision)} UTC"
