"""Where access control is changed: one change at a time, each of them whole.

    compute the next document → build and test its view → audit that it is asked for → make it durable
    → swap the view → end the connections that must → audit that it is done → answer

So a change that cannot work is refused before anything has happened, one that is answered survives a power cut, and one
that was cut short is in the audit log as begun and not as done. Whoever asked may go away: what is being made durable
is carried to its end first, and the next change waits for that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from appliance.audit.log import AuditLog
from appliance.audit.record import Actor, AuditEvent, Outcome
from appliance.clock import Clock
from appliance.config import Config
from appliance.errors import ApplianceError, ChangeRefused, StateError
from appliance.security.access_view import AccessView, ConfiguredAccess
from appliance.security.authority import AccessControl
from appliance.security.change_details import change_details
from appliance.security.credential_store import CredentialStore, moved_on
from appliance.security.credentials import Credentials
from appliance.security.last_seen import LastSeen
from appliance.security.profiles import Profiles

T = TypeVar("T")

_log = logging.getLogger(__name__)

# From one document to the next, and what the one who asked gets to know.
Transition = Callable[[Credentials, datetime], tuple[Credentials, T]]


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What came of a change. generation: of the document after it; of the one before where it was only planned."""

    result: T
    generation: int
    cut: int = 0


class Office:
    """Belongs to the daemon's event loop. cut: ends the connections that must by the new view, and counts them."""

    def __init__(
        self,
        store: CredentialStore,
        access: AccessControl,
        audit: AuditLog,
        seen: LastSeen,
        profiles: Profiles,
        now: Clock,
    ) -> None:
        self.store = store
        self.access = access
        self.audit = audit
        self.seen = seen
        self.profiles = profiles
        self.now = now
        self.cut: Callable[[], int] = lambda: 0
        # Held by whoever reads or rewrites whole folders, for minutes. Of all changes only a new seal key waits for it.
        self.long_work = asyncio.Lock()
        self._changing = asyncio.Lock()
        # Not the loop's own threads: those may all be busy for minutes, and a revocation does not wait for a report.
        self._thread = ThreadPoolExecutor(1, "office")
        self._work_thread = ThreadPoolExecutor(1, "office-work")

    @property
    def document(self) -> Credentials:
        """The credentials as they are now."""
        return self.store.current

    @property
    def config(self) -> Config:
        """appliance.yaml as it counts now."""
        return self.access.view.configured.config

    async def change(
        self,
        actor: Actor,
        action: str,
        resource: str,
        transition: Transition[T],
        *,
        expected: int | None = None,
        plan: bool = False,
        details: Mapping[str, str | int] | None = None,
        finish: Callable[[], Awaitable[None]] | None = None,
    ) -> Change[T]:
        """Makes one change. expected: the generation it was decided on. plan: all but making it.

        details: for its audit records, besides what differs between the documents.
        transition: on the event loop, so it takes milliseconds.
        finish: what must follow, once the change is durable, before anybody else changes something. Where it fails,
        what it raises is raised and recorded; the document stays changed.
        Raises ChangeRefused, or StateError where it cannot be stored or audited; then nothing has changed. An audit log
        that fails once the change is durable gets the record that it is done as soon as it works again.
        """
        async with self._changing:
            before = self.store.current
            try:
                if expected is not None and expected != before.generation:
                    raise ChangeRefused("generation_mismatch", moved_on(expected, before.generation))
                after, result = transition(before, self.now())
                view = await self._compile(self.access.view.configured, after)
            except ApplianceError as error:
                if not plan:
                    self._note(actor, action, resource, "deny", reason=str(error))
                raise
            if plan:
                return Change(result, before.generation)
            details = {**change_details(before, after), **(details or {})}
            if after is before:
                self._note(actor, action, resource, "ok", reason="nothing to change")
                return Change(result, before.generation)
            await self._audit(actor, action, resource, "allow", details=details)
            stored, cancelled = await self._in_thread(
                self._thread, actor, action, resource, lambda: self.store.commit(before.generation, after)
            )
            cut = self._swap(dataclasses.replace(view, document=stored))
            if finish is not None:
                try:
                    await finish()
                except Exception as error:
                    self._note(actor, action, resource, "failed", reason=str(error))
                    raise
            done = {**details, "generation": stored.generation, "cut": cut}
            await self._record_done(actor, action, resource, done)
            if cancelled is not None:
                raise cancelled
            return Change(result, stored.generation, cut)

    async def reconfigure(
        self, actor: Actor, configured: ConfiguredAccess, *, details: Mapping[str, str | int] | None = None
    ) -> int:
        """Swaps what comes from appliance.yaml; returns how many connections had to end.

        Raises ConfigError or StateError, and then the old configuration counts on.
        """
        async with self._changing:
            view = await self._compile(configured, self.store.current)
            await self._audit(actor, "config.reload", "appliance.yaml", "allow", details=details)
            cut = self._swap(view)
            await self._record_done(actor, "config.reload", "appliance.yaml", {**(details or {}), "cut": cut})
            return cut

    async def perform(
        self,
        actor: Actor,
        action: str,
        resource: str,
        work: Callable[[], T],
        *,
        details: Mapping[str, str | int] | None = None,
    ) -> T:
        """Does something that is no change of the document, in a thread, audited before and after.

        One at a time, beside the changes: it may take minutes, and a revocation waits for nobody.
        """
        async with self.long_work:
            await self._audit(actor, action, resource, "allow", details=details)
            result, cancelled = await self._in_thread(self._work_thread, actor, action, resource, work)
            await self._record_done(actor, action, resource, details)
            if cancelled is not None:
                raise cancelled
            return result

    async def compute(self, work: Callable[[], T]) -> T:
        """What `work` returns, in the thread of the changes: what a change needs and what is too long for the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _compile(self, configured: ConfiguredAccess, document: Credentials) -> AccessView:
        """Some milliseconds, and with long revocation lists seconds, in which answers flow on."""
        return await self.compute(functools.partial(AccessView.build, configured, document, self.access.view))

    async def _in_thread(
        self, thread: ThreadPoolExecutor, actor: Actor, action: str, resource: str, work: Callable[[], T]
    ) -> tuple[T, asyncio.CancelledError | None]:
        """What `work` returns, and the cancellation that came meanwhile, which is the caller's to raise.

        A thread cannot be stopped. Leaving it alone would let the next one begin beside it.
        """
        running = asyncio.get_running_loop().run_in_executor(thread, work)
        cancelled = None
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError as error:
                cancelled = error
        try:
            return running.result(), cancelled
        except Exception as error:
            self._note(actor, action, resource, "failed", reason=str(error))
            if cancelled is not None:
                raise cancelled from error
            raise

    def _swap(self, view: AccessView) -> int:
        self.access.replace(view)
        return self.cut()

    async def _audit(
        self,
        actor: Actor,
        action: str,
        resource: str,
        outcome: Outcome,
        *,
        details: Mapping[str, str | int] | None = None,
    ) -> None:
        await self.audit.append_durably(_event(actor, action, resource, outcome, "", details))

    async def _record_done(
        self, actor: Actor, action: str, resource: str, details: Mapping[str, str | int] | None
    ) -> None:
        """It has happened, so a failure here is no reason to say that it has not."""
        event = _event(actor, action, resource, "ok", "", details)
        try:
            await self.audit.append_durably(event)
        except StateError as error:
            _log.error("%s %s is done, but not yet in the audit log: %s", action, resource, error)
            self.audit.append(event)

    def _note(self, actor: Actor, action: str, resource: str, outcome: Outcome, *, reason: str) -> None:
        self.audit.append(_event(actor, action, resource, outcome, reason, None))


def _event(
    actor: Actor, action: str, resource: str, outcome: Outcome, reason: str, details: Mapping[str, str | int] | None
) -> AuditEvent:
    return AuditEvent(
        action=action, outcome=outcome, actor=actor, resource=resource, reason=reason, details=dict(details or {})
    )
