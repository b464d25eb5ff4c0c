"""From one release to another, and back by itself where the new one is not well.

Each step leaves the host so that `recover` finds a working release, whatever happens next: first the journal says what
is going to be done, then it is done, and the journal's end is the moment from which it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from installer import journal, snapshot
from installer.durable import link, remove
from installer.errors import StepFailed
from installer.journal import Change
from installer.layout import Layout
from installer.release_folder import Release, release_at
from installer.services import Services
from installer.units import keeps_sockets, place_units, remove_units


@dataclass(frozen=True, slots=True)
class Changeover:
    """tell: is told each step before it is taken. gate_seconds: how long a release may take to be well."""

    layout: Layout
    services: Services
    tell: Callable[[str], None]
    gate_seconds: float

    def first(self, release: Release) -> None:
        """Puts a release where there was none. Nothing is started: there is no configuration yet."""
        self._note(Change(None, release.version, "begun", restore=False))
        self._place(release)
        self.tell("makes users and folders")
        self.services.make_users_and_folders()
        self._finish()

    def switch(self, before: Release, after: Release, *, restore: bool, with_state: bool) -> None:
        """Exchanges a release that runs for another, or raises StepFailed once the earlier one runs again.

        An interrupt leads back too; one on the way back ends it where it is, for `recover`.

        restore: whether `before` needs the state as it was, because it does not read what `after` writes.
        with_state: whether `after` gets the state that it had when it ended.
        """
        change = Change(before.version, after.version, "begun", restore)
        self._note(change)
        try:
            self._stop(before.version, after)
            self.tell("takes a snapshot of the state")
            snapshot.take(self.layout, before.version)
            self._note(Change(before.version, after.version, "switched", restore))
            if with_state:
                self.tell(f"brings back the state of {after.version}")
                snapshot.bring_back(self.layout, after.version)
            self._place(after)
            self.services.make_users_and_folders()
            self.services.enable()
            self.tell(f"starts {after.version}")
            self.services.start()
            reason = self.services.unready(after.version, self.gate_seconds)
            fault = None if reason is None else f"was not well: {reason}"
        except (StepFailed, OSError) as failed:
            # A disk that is full, too, is no reason to stay stopped.
            fault = f"was not well: {failed}"
        except KeyboardInterrupt:
            fault = "was interrupted"
        if fault is None:
            link(self.layout.previous, f"releases/{before.folder.name}")
            snapshot.forget_keys(self.layout, before.version)
            self._finish()
            return
        self.tell(f"{after.version} {fault}; goes back to {before.version}")
        self.go_back(starting=True)
        raise StepFailed(f"{after.version} {fault}\n{before.version} runs again")

    def go_back(self, *, starting: bool) -> str | None:
        """Undoes the change that the journal tells of, and says which release counts; None where none is under way.

        starting: whether to start it. At boot systemd does. Raises StepFailed where the earlier one is not well.
        """
        change = journal.under_way(self.layout)
        if change is None:
            return None
        if change.before is None:
            self.tell("removes what was begun")
            for path in (self.layout.current, *self.layout.commands):
                remove(path)
            remove_units(self.layout)
            self.services.reload_units()
            self._finish()
            return "none"
        before = release_at(self.layout.releases / change.before)
        if before is None:
            raise StepFailed(f"release {change.before} is gone; install its bundle again")
        if starting:
            self._stop("what runs", before)
        self._place(before)
        if change.phase == "switched" and change.restore:
            self.tell("brings the state back")
            snapshot.bring_back(self.layout, change.before)
        if starting:
            self.tell(f"starts {before.version}")
            self.services.start()
            if (reason := self.services.unready(before.version, self.gate_seconds)) is not None:
                self._finish()
                raise StepFailed(f"{before.version} counts again, and is not well: {reason}")
        self._finish()
        return before.version

    def _stop(self, what: str, after: Release) -> None:
        """Clients wait for `after`, unless it listens in another way: sockets of other units have to be made anew."""
        if keeps_sockets(self.layout, after.folder):
            self.tell(f"stops {what}; who connects waits")
            self.services.hold()
        else:
            self.tell(f"stops {what} and its sockets, because those of {after.version} are others")
            self.services.stop()

    def _place(self, release: Release) -> None:
        self.tell(f"places the units of {release.version}")
        place_units(self.layout, release.folder)
        self.tell(f"makes {release.version} the current release")
        link(self.layout.current, f"releases/{release.folder.name}")
        for command, target in self.layout.commands.items():
            command.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            link(command, f"/opt/appliance/current/{target}")
        self.services.reload_units()

    def _note(self, change: Change) -> None:
        self.tell("notes what is going to be done")
        journal.note(self.layout, change)

    def _finish(self) -> None:
        self.tell("notes that it is done")
        journal.finish(self.layout)
