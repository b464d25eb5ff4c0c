"""appliance.audit.retention: 90 full days by every clock, and a record first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from appliance.access_config import Audit
from appliance.audit.chain import Link
from appliance.audit.journal import DAY
from appliance.audit.log import AuditLog
from appliance.audit.read import RecordFilter, tail
from appliance.audit.retention import Plan, Pruned, plan, prune
from appliance.audit.seals import Seal
from appliance.audit.verify import verify
from appliance.errors import StateError
from tests.unit.audit.making import Site

DAY_SECONDS = 86_400


def aged(site: Site) -> None:
    """Segment 1 ended 91 days ago, 2 for 89 days; 3 is open."""
    journal = site.journal()
    site.write(journal, 3)
    site.time.advance(2 * DAY_SECONDS)
    site.write(journal, 3)
    site.time.advance(89 * DAY_SECONDS)
    site.write(journal, 3)
    journal.close()
    site.pack()
    assert journal.segment == 3


@contextmanager
def opened(site: Site) -> Iterator[AuditLog]:
    log = AuditLog.open(site.folder, site.settings, site.cipher, site.seal_key, clock=site.time.clock())
    try:
        yield log
    finally:
        log.close()


async def pruned(site: Site) -> Pruned:
    with opened(site) as log:
        return await prune(log, site.folder, site.settings, site.cipher, site.time.now)


async def test_91_days_go_and_89_stay(site: Site) -> None:
    aged(site)
    assert await pruned(site) == Pruned((1,), None)
    assert not (site.folder / "00000001.log.enc").exists()
    assert (site.folder / "00000001.seal").exists()
    assert (site.folder / "00000002.log.enc").exists()
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert not report.findings and report.pruned == 1
    [record] = tail(site.folder, site.cipher, RecordFilter(action="audit.pruned"), 10)
    assert record.details["segment"] == 1 and record.details["retention_days"] == 90
    assert await pruned(site) == Pruned((), None)


@pytest.mark.slow
async def test_the_log_verifies_when_the_record_of_pruning_is_pruned_too(site: Site) -> None:
    aged(site)
    await pruned(site)
    for _ in range(3):
        site.time.advance(91 * DAY_SECONDS)
        journal = site.journal()
        journal.roll_now()
        journal.close()
        site.pack()
        await pruned(site)
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert not report.findings and report.pruned >= 3
    assert report.macs == report.records > 0


async def test_deleting_without_a_record_is_found(site: Site) -> None:
    aged(site)
    await pruned(site)
    (site.folder / "00000002.log.enc").unlink()
    assert [finding.segment for finding in verify(site.folder, cipher=site.cipher).findings] == [2]


async def test_legal_hold_keeps_everything(site: Site) -> None:
    aged(site)
    site.settings = Audit(legal_hold=True)
    assert await pruned(site) == Pruned((), "legal_hold is set")
    assert (site.folder / "00000001.log.enc").exists()


@pytest.mark.parametrize("years", [1, -1, -56])
@pytest.mark.slow
async def test_a_clock_that_jumps_while_it_runs_prunes_nothing(site: Site, years: int) -> None:
    aged(site)
    with opened(site) as log:
        site.time.set_by(years * 365 * DAY_SECONDS)
        refused = await prune(log, site.folder, site.settings, site.cipher, site.time.now)
    assert refused.segments == () and refused.refusal is not None and "one is wrong" in refused.refusal


async def test_a_clock_that_jumps_before_a_start_makes_nothing_older(site: Site) -> None:
    """The newest record then carries the wrong time too, and both clocks agree; the log has not seen that year."""
    journal = site.journal()
    site.write(journal, 3)
    journal.roll_now()
    journal.close()
    site.pack()
    site.time.reboot()
    site.time.set_by(365 * DAY_SECONDS)
    assert await pruned(site) == Pruned((), None)
    site.time.reboot()
    site.time.set_by(-57 * 365 * DAY_SECONDS)
    assert await pruned(site) == Pruned((), None)


async def test_damage_is_kept_as_evidence(site: Site) -> None:
    aged(site)
    path = site.folder / "00000001.log.enc"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    refused = await pruned(site)
    assert refused.segments == () and refused.refusal is not None and "stays as evidence" in refused.refusal
    (site.folder / "00000002.seal").write_bytes(b"forged")
    with pytest.raises(StateError, match="forged"):
        await pruned(site)


def seal(number: int, ended: int, witnessed: int, template: Seal) -> Seal:
    link = msgspec.structs.replace(template.link, ts=ended, witnessed=witnessed)
    return msgspec.structs.replace(template, segment=number, link=link, last_ts=None)


def test_the_plan_is_exact_to_the_day(site: Site) -> None:
    journal = site.journal()
    journal.roll_now()
    journal.close()
    template, newest = site.seal(1), site.seal(1).link
    now = newest.ts

    def planned(age: int, *, witnessed: int | None = None, clock: int = 0) -> tuple[int, ...]:
        seen = age if witnessed is None else witnessed
        current: Link = msgspec.structs.replace(newest, witnessed=1000 * DAY)
        one = seal(1, now - age, 1000 * DAY - seen, template)
        return plan([one], {1}, current, now + clock, Audit()).segments

    assert planned(90 * DAY) == ()
    assert planned(90 * DAY + 1) == (1,)
    assert planned(90 * DAY + 1, clock=-1) == ()
    assert planned(90 * DAY + 1, witnessed=90 * DAY) == ()
    assert planned(91 * DAY, clock=2 * DAY) == (1,)
    assert planned(91 * DAY, clock=2 * DAY + 1) == ()


def test_the_oldest_go_first_and_without_a_gap(site: Site) -> None:
    journal = site.journal()
    journal.roll_now()
    journal.close()
    template, newest = site.seal(1), msgspec.structs.replace(site.seal(1).link, witnessed=1000 * DAY)
    ages = [200, 150, 50, 140]
    seals = [
        seal(number, newest.ts - age * DAY, (1000 - age) * DAY, template) for number, age in enumerate(ages, start=1)
    ]
    assert plan(seals, {1, 2, 3, 4}, newest, newest.ts, Audit()) == Plan((1, 2))
    assert plan(seals, {2, 3, 4}, newest, newest.ts, Audit()) == Plan((2,))
