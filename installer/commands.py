"""What each command does: look, decide, say; and only then, unless it is a plan, do it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from installer import snapshot
from installer.bundle import Bundle, open_bundle
from installer.changeover import Changeover
from installer.choice import check_upgrade, needs_state_back
from installer.durable import remove
from installer.errors import Refused, StepFailed
from installer.host import Host, lacks
from installer.journal import remember, under_way
from installer.layout import Layout
from installer.manifest import Manifest
from installer.release_folder import Release, current_release, make_release, previous_release, remove_releases
from installer.restoring import Backup, check_restore, restore
from installer.services import Services
from installer.trust import keep, trusted_keys
from installer.units import remove_units

# Of the first configuration: there once it is made, and as long as something of it waits for the service.
_CONFIGURED: Final = "models.yaml"
_WAITS: Final = "first-run.json"


@dataclass(frozen=True, slots=True)
class Setup:
    """A host, and who is told and asked. look: at the host. now: UTC, ISO 8601. gate_seconds: see Changeover."""

    layout: Layout
    services: Services
    tell: Callable[[str], None]
    ask: Callable[[str], bool]
    look: Callable[[Manifest, Path], Host]
    now: Callable[[], str]
    gate_seconds: float

    def verify(self, path: Path, expected: str | None) -> Bundle:
        """The bundle, proven; says what it is. Raises Refused."""
        bundle, _ = self._proven(path, expected)
        return bundle

    def install(
        self, path: Path, expected: str | None, answers: Path | None, backup: Backup | None, *, plan: bool
    ) -> None:
        """The first release, its configuration, a backup where one is named, and the start.

        What an interrupted try has done stays done.
        """
        self._refuse_while_changing()
        if backup is not None:
            check_restore(self.layout, backup)
        bundle, keys = self._proven(path, expected)
        manifest = bundle.manifest
        there = current_release(self.layout)
        if there is not None and there.version != manifest.version:
            raise Refused(f"{there.version} is installed; `appliance-setup upgrade {path}` puts another in its place")
        if there is not None and there.manifest != manifest:
            raise Refused(f"another build of {there.version} is installed; one that differs needs another version")
        if there is not None and not there.runs:
            self.tell(f"{there.version} was made for a Python that is gone")
            there = None
        host = self._fit(manifest)
        configured = self._configured()
        steps = [f"makes release {manifest.version}", "makes users, folders and units"] if there is None else []
        steps += [] if configured else [f"asks for the configuration{'' if answers is None else f' in {answers}'}"]
        steps += [] if backup is None else [f"restores {backup.archive}"]
        steps += ["enables and starts the service, and waits until it is ready"]
        waits = not configured or self._waiting()
        steps += ["makes the first client and the signing request, where they are asked for"] * waits
        if self._planned(steps, plan=plan):
            return
        keep(self.layout, keys)
        if there is None:
            self.tell(f"makes release {manifest.version}")
            there = make_release(self.layout, bundle, host.python)
            self._changeover().first(there)
            remember(self.layout, self.now(), did="install", version=manifest.version, signed_by=bundle.signed_by)
        if not configured:
            given = [] if answers is None else ["--answers", str(answers.resolve())]
            if self._first_run(*given) != 0:
                raise StepFailed("it is installed and not configured; the same command goes on from here")
        if backup is not None:
            self.tell(f"restores {backup.archive}")
            restore(self.layout, backup)
            remember(self.layout, self.now(), did="restore", backup=str(backup.archive))
        self.tell("enables and starts the service")
        self.services.enable()
        self.services.start()
        if (reason := self.services.unready(manifest.version, self.gate_seconds)) is not None:
            raise StepFailed(f"it is installed, and not well: {reason}")
        if self._waiting() and self._first_run("--finish") != 0:
            raise StepFailed("it serves, and not all is made that was asked for: `appliance first-run --finish`")
        self.tell(f"{manifest.version} is ready")

    def upgrade(self, path: Path, *, downgrade: bool, plan: bool) -> None:
        """Another release in the place of the current one, which comes back by itself where the new one is not well."""
        self._refuse_while_changing()
        before = self._installed()
        bundle, _ = self._proven(path, None)
        after = bundle.manifest
        check_upgrade(before.manifest, after, downgrade=downgrade)
        host = self._fit(after)
        back = needs_state_back(before.manifest, after)
        self._refuse_without_room(back=back)
        steps = (
            f"makes release {after.version} beside {before.version}, which goes on serving",
            "drains and stops the service, and takes a snapshot of the state",
            f"starts {after.version} and waits up to {self.gate_seconds:.0f} s until it is ready",
            f"else goes back to {before.version}{' and to the snapshot' if back else ''}",
        )
        if self._planned(steps, plan=plan):
            return
        self.tell(f"makes release {after.version}")
        release = make_release(self.layout, bundle, host.python)
        self._switch("upgrade", before, release, restore=back)
        kept = frozenset({before.version, after.version})
        remove_releases(self.layout, kept)
        snapshot.forget(self.layout, frozenset({before.version}))
        self.tell(f"{after.version} is ready; {before.version} is kept for `appliance-setup rollback`")

    def rollback(self, *, restore_state: bool, plan: bool) -> None:
        """Back to the release before. restore_state: with its snapshot, also where it reads today's state."""
        self._refuse_while_changing()
        now = self._installed()
        if (then := previous_release(self.layout)) is None:
            raise Refused(
                "there is no release to go back to; `appliance-setup upgrade --allow-downgrade` takes a bundle"
            )
        restore = restore_state or needs_state_back(then.manifest, now.manifest)
        self._refuse_without_room(back=restore)
        if restore and not snapshot.exists(self.layout, then.version):
            raise Refused(f"{then.version} does not read today's state, and its snapshot is gone; restore a backup")
        steps = (
            f"stops {now.version}",
            *((f"brings back request log and history as {then.version} left them; access stays today's",) * restore),
            f"starts {then.version}, and waits until it is ready; else {now.version} comes back",
        )
        if self._planned(steps, plan=plan):
            return
        self._switch("rollback", now, then, restore=restore, with_state=restore)
        self.tell(f"{then.version} is ready")

    def recover(self, *, at_boot: bool) -> None:
        """Ends what a power cut has interrupted, with the release that ran before. Nothing else is done."""
        counts = self._changeover().go_back(starting=not at_boot)
        if counts is not None:
            remember(self.layout, self.now(), did="recover", version=counts)
            self.tell(f"a change was interrupted; the release that counts: {counts}")
        elif not at_boot:
            self.tell("nothing was interrupted")

    def uninstall(self, *, purge: bool, yes: bool, plan: bool) -> None:
        """Releases, units and commands go; state and configuration stay unless `purge`."""
        layout = self.layout
        # The sealed key first: without it nobody reads what a disk may still hold of the rest.
        doomed = [layout.sealed_key, layout.state, layout.settings, layout.snapshots] if purge else []
        steps = [
            "stops and disables the service",
            "removes units, commands and all releases",
            *(f"removes {path}, which nothing brings back" for path in doomed),
        ]
        if self._planned(steps, plan=plan):
            return
        if purge and not yes and not self.ask("Keys, audit log, models and configuration will be gone. Remove them?"):
            raise Refused("nothing was removed")
        if self.layout.current.is_symlink():
            self.services.stop()
            self.services.disable()
        remove_units(self.layout)
        self.services.reload_units()
        for path in (*self.layout.commands, self.layout.current, self.layout.previous, self.layout.journal):
            remove(path)
        if left := [str(path) for path in (*doomed, layout.product) if not _removed(path)]:
            raise StepFailed(f"not removed: {', '.join(left)}; see what holds it, and remove it by hand")
        self.tell("removed" if purge else f"removed; {self.layout.state} and {self.layout.settings} are still there")

    def _proven(self, path: Path, expected: str | None) -> tuple[Bundle, dict[str, bytes]]:
        keys = trusted_keys(self.layout, path, expected, self.ask)
        bundle = open_bundle(path, keys)
        about = bundle.manifest
        self.tell(
            f"{path.name}: {about.version} for {about.machine}, {about.backend}; {len(about.files)} files as signed"
        )
        return bundle, keys

    def _fit(self, manifest: Manifest) -> Host:
        host = self.look(manifest, self.layout.product)
        if missing := list(lacks(host, manifest)):
            raise Refused(
                "\n".join(("this host is not ready, and nothing was touched:", *(f"- {one}" for one in missing)))
            )
        return host

    def _installed(self) -> Release:
        if (release := current_release(self.layout)) is None:
            raise Refused("nothing is installed; `appliance-setup install BUNDLE` does that")
        return release

    def _configured(self) -> bool:
        return (self.layout.settings / _CONFIGURED).exists()

    def _waiting(self) -> bool:
        """Whether something of the first configuration is to be made once the service is ready."""
        return (self.layout.settings / _WAITS).exists()

    def _refuse_while_changing(self) -> None:
        if under_way(self.layout) is not None:
            raise Refused("an earlier change was interrupted; `appliance-setup recover` ends it first")

    def _refuse_without_room(self, *, back: bool) -> None:
        lack, folder = snapshot.lack_bytes(self.layout, back=back)
        if lack:
            room = f"{lack / 2**20:.0f} MiB for a snapshot of the state{' and the way back' if back else ''}"
            raise Refused(f"the disk of {folder} lacks {room}: make room, then try again")

    def _planned(self, steps: tuple[str, ...] | list[str], *, plan: bool) -> bool:
        if plan:
            for number, step in enumerate(steps, 1):
                self.tell(f"{number}. {step}")
        return plan

    def _changeover(self) -> Changeover:
        return Changeover(self.layout, self.services, self.tell, self.gate_seconds)

    def _switch(self, did: str, before: Release, after: Release, *, restore: bool, with_state: bool = False) -> None:
        versions = {"before": before.version, "after": after.version}
        older = after.manifest.sequence < before.manifest.sequence
        try:
            self._changeover().switch(before, after, restore=restore, with_state=with_state)
        except StepFailed as failed:
            # A disk that is full has no room for this either, and what has failed is still to be said.
            with contextlib.suppress(OSError):
                remember(self.layout, self.now(), did=did, **versions, older=older, failed=str(failed))
            raise
        remember(self.layout, self.now(), did=did, **versions, older=older)

    def _first_run(self, *options: str) -> int:
        """The product's own: what may be answered, and what becomes of it, is its matter. Returns its exit status."""
        command = [str(self.layout.current / "venv/bin/python"), "-I", "-m", "appliance", "first-run", *options]
        return subprocess.run(command, check=False).returncode


def _removed(path: Path) -> bool:
    """Removes a file, or a folder with what is in it, also where a link leads to it; whether nothing of it is left.

    A mount point stays, empty.
    """
    if path.is_dir():
        shutil.rmtree(path.resolve(), ignore_errors=True)
    if path.is_dir():
        return not any(path.iterdir())
    remove(path)
    return True
