from __future__ import annotations

import errno
from contextlib import nullcontext
from pathlib import Path

import pytest

from installer import journal, snapshot
from installer.changeover import Changeover
from installer.errors import StepFailed
from installer.layout import Layout
from installer.release_folder import Release, current_release
from tests.unit.installer.made import UNITS, Recorded, release

# Each step of each change is cut off: with whatever else the disk does, that takes seconds.
pytestmark = pytest.mark.slow


class PowerCut(BaseException):
    """Nothing of ours may catch it."""


class Bench:
    """Two releases on a host, of which 1.0.0 runs and has written `one` into the state."""

    def __init__(
        self, root: Path, *, ill: frozenset[str] = frozenset(), state_format: int = 1, sockets: str = "8443"
    ) -> None:
        self.layout = Layout(root)
        self.value = self.layout.state / "store/value"
        self.value.parent.mkdir(parents=True)
        (self.layout.state / "audit").mkdir()
        self.audit = self.layout.state / "audit/log"
        self.value.write_text("one")
        self.audit.write_text("one")
        self.old = release(self.layout, "1.0.0")
        self.new = release(self.layout, "2.0.0", sequence=2, state_format=state_format, sockets=sockets)
        self.services = Recorded(self.layout, ill, self._written)
        self.steps: list[str] = []
        self.sockets: list[str] = []
        self.changeover().first(self.old)
        self.services.start()

    def _written(self, version: str) -> None:
        if version == "2.0.0":
            self.value.write_text("two")
            self.audit.write_text("two")

    def changeover(self, cut_at: int | None = None, by: type[BaseException] = PowerCut) -> Changeover:
        """One that is cut off before a step, once."""
        steps: list[str] = []
        self.steps = steps

        def tell(step: str) -> None:
            steps.append(step)
            if len(steps) - 1 == cut_at:
                raise by
            if "snapshot" in step or "brings" in step:
                assert self.services.running is None
            self.sockets.append(self.services.sockets)

        return Changeover(self.layout, self.services, tell, gate_seconds=1)

    def switch(self, cut_at: int | None = None, by: type[BaseException] = PowerCut) -> None:
        restore = self.old.manifest.state_format != self.new.manifest.state_format
        self.changeover(cut_at, by).switch(self.old, self.new, restore=restore, with_state=False)

    def assert_counts(self, wanted: Release) -> None:
        """And nothing of another one is left over."""
        there = current_release(self.layout)
        assert there is not None
        assert there.version == wanted.version
        assert journal.under_way(self.layout) is None
        units = {path.name for path in (self.layout.root / UNITS).iterdir()}
        assert units == {"appliance.service", f"appliance-{wanted.version}.service", "appliance.socket"}
        assert (self.layout.root / UNITS / "appliance.service").read_text() == wanted.version


def steps_of(tmp_path: Path, **how: object) -> int:
    bench = Bench(tmp_path / "counted", **how)  # type: ignore[arg-type]
    try:
        bench.switch()
    except StepFailed:
        # The way back begins after this many.
        return next(number for number, step in enumerate(bench.steps) if "was not well" in step) + 1
    return len(bench.steps)


def test_a_release_that_is_well_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.switch()
    bench.assert_counts(bench.new)
    assert bench.services.running == "2.0.0"
    assert bench.value.read_text() == "two"


@pytest.mark.parametrize(("state_format", "value"), [(1, "two"), (2, "one")])
def test_one_that_is_not_well_makes_room_again(tmp_path: Path, state_format: int, value: str) -> None:
    bench = Bench(tmp_path, ill=frozenset({"2.0.0"}), state_format=state_format)
    with pytest.raises(StepFailed, match=r"1\.0\.0 runs again"):
        bench.switch()
    bench.assert_counts(bench.old)
    assert bench.services.running == "1.0.0"
    # What the earlier one reads it keeps; what has happened stays on record either way.
    assert bench.value.read_text() == value
    assert bench.audit.read_text() == "two"


@pytest.mark.parametrize(("sockets", "meanwhile"), [("8443", "held"), ("9443", "none")])
@pytest.mark.parametrize("ill", [frozenset[str](), frozenset({"2.0.0"})])
def test_who_connects_waits_unless_the_sockets_change(
    tmp_path: Path, ill: frozenset[str], sockets: str, meanwhile: str
) -> None:
    bench = Bench(tmp_path, ill=ill, sockets=sockets)
    bench.sockets.clear()
    with pytest.raises(StepFailed) if ill else nullcontext():
        bench.switch()
    assert set(bench.sockets) == {"served", meanwhile}
    assert bench.services.sockets == "served"
    bench.assert_counts(bench.old if ill else bench.new)


def test_a_disk_that_is_full_in_the_middle_does_not_leave_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)

    def full(layout: Layout, version: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(layout.snapshots))

    monkeypatch.setattr(snapshot, "take", full)
    with pytest.raises(StepFailed, match="No space left"):
        bench.switch()
    bench.assert_counts(bench.old)
    assert bench.services.running == "1.0.0"


@pytest.mark.parametrize("state_format", [1, 2])
def test_an_interrupt_at_any_step_leads_back(tmp_path: Path, state_format: int) -> None:
    count = steps_of(tmp_path, state_format=state_format)
    # Before the first there is nothing to take back, and before the last the new one is well.
    for cut_at in range(1, count - 1):
        bench = Bench(tmp_path / str(cut_at), state_format=state_format)
        with pytest.raises(StepFailed, match=r"2\.0\.0 was interrupted\n1\.0\.0 runs again"):
            bench.switch(cut_at, KeyboardInterrupt)
        bench.assert_counts(bench.old)
        assert (bench.services.running, bench.services.sockets) == ("1.0.0", "served")


@pytest.mark.parametrize("at_boot", [True, False])
@pytest.mark.parametrize("ill", [frozenset[str](), frozenset({"2.0.0"})])
@pytest.mark.parametrize("state_format", [1, 2])
def test_a_power_cut_at_any_step_leaves_a_release_that_works(
    tmp_path: Path, at_boot: bool, ill: frozenset[str], state_format: int
) -> None:
    count = steps_of(tmp_path, ill=ill, state_format=state_format)
    for cut_at in range(40):
        bench = Bench(tmp_path / str(cut_at), ill=ill, state_format=state_format)
        try:
            bench.switch(cut_at)
        except PowerCut:
            pass
        except StepFailed:
            break
        else:
            break
        # Whatever the moment: the link leads to a release that is whole.
        assert current_release(bench.layout) is not None
        bench.services.stop()
        undone = bench.changeover().go_back(starting=not at_boot)
        if at_boot or undone is None:
            bench.services.start()
        bench.assert_counts(bench.old)
        assert bench.services.running == "1.0.0"
        assert bench.value.read_text() == ("one" if state_format == 2 or bench.audit.read_text() == "one" else "two")
    assert cut_at >= count


def test_a_power_cut_in_the_way_back_is_no_different(tmp_path: Path) -> None:
    for second in range(20):
        bench = Bench(tmp_path / str(second), ill=frozenset({"2.0.0"}), state_format=2)
        count = steps_of(tmp_path / f"count-{second}", ill=frozenset({"2.0.0"}), state_format=2)
        with pytest.raises(PowerCut):
            bench.switch(count)
        try:
            bench.changeover(second).go_back(starting=True)
            done = True
        except PowerCut:
            done = False
            bench.changeover().go_back(starting=True)
        bench.assert_counts(bench.old)
        assert (bench.services.running, bench.value.read_text()) == ("1.0.0", "one")
        if done:
            assert second > 3
            return
    pytest.fail("the way back has no end")


def test_a_power_cut_in_the_first_installation_leaves_nothing_behind(tmp_path: Path) -> None:
    for cut_at in range(10):
        layout = Layout(tmp_path / str(cut_at))
        only = release(layout, "1.0.0")
        services = Recorded(layout, frozenset(), lambda _: None)
        told: list[str] = []

        def tell(step: str, told: list[str] = told, cut_at: int = cut_at) -> None:
            if len(told) == cut_at:
                raise PowerCut
            told.append(step)

        try:
            Changeover(layout, services, tell, 1).first(only)
        except PowerCut:
            Changeover(layout, services, lambda _: None, 1).go_back(starting=False)
            assert journal.under_way(layout) is None
            # Before the journal there is nothing, and after its end all of it.
            assert current_release(layout) is None or cut_at == len(told) == 5
            if (layout.root / UNITS).is_dir() and current_release(layout) is None:
                assert list((layout.root / UNITS).iterdir()) == []
        else:
            assert current_release(layout) is not None
            return
    pytest.fail("the installation has no end")
