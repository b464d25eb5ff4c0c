"""kill -9 at random moments while audit records are written, segments closed, encrypted and recovered."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from appliance.audit.epoch_state import EpochState
from appliance.audit.log import AuditLog
from appliance.audit.read import export
from appliance.audit.record import decode_body, split_line
from appliance.audit.segments import EPOCH_KEY, Listing
from appliance.audit.verify import verify
from tests.security.audit_writer import SETTINGS, write_for_ever
from tests.unit.audit.making import Site

CHAIN_SEED = 20_261_125


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_the_chain_survives(tmp_path: Path, kills: int) -> None:
    chance = random.Random(CHAIN_SEED)
    site = Site(tmp_path / "audit", settings=SETTINGS)
    site.folder.mkdir(mode=0o700)
    # One server process imports everything once and forks a writer per kill.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.security.audit_writer"])
    durable = torn = 0
    for _ in range(kills):
        durable = max(durable, _run_and_kill(context, site, chance))
        torn += _tear(site, durable, chance)
    log = AuditLog.open(site.folder, SETTINGS, site.cipher, site.seal_key)
    assert log.degraded == ()
    log.close()
    report = verify(site.folder, cipher=site.cipher, k0=site.k0())
    assert not report.findings
    assert report.macs == report.records > 0
    records = [decode_body(line) for line in export(site.folder, site.cipher)]
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert len(records) > durable > 0
    # A writer that is killed while it records a torn line leaves it to the next one, which may say it again.
    recovered = [record.details["bytes"] for record in records if record.action == "audit.recovered"]
    assert sum(size for size in recovered if isinstance(size, int)) >= torn
    assert sum(path.stat().st_size for path in site.folder.glob("*.torn")) >= torn
    assert report.segments >= kills // 5


def _run_and_kill(context: ForkServerContext, site: Site, chance: random.Random) -> int:
    """Returns the number of the last record that the writer knew to be durable."""
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=write_for_ever, args=(site.folder, site.seal_key.private_bytes, writer))
    process.start()
    writer.close()
    durable = 0
    with reader:
        if chance.random() < 0.7:  # else it is killed while it starts
            durable = int(reader.recv_bytes())
        process.join(chance.uniform(0, 0.03))
        process.kill()
        process.join()
        with contextlib.suppress(EOFError):
            while True:
                durable = int(reader.recv_bytes())
    process.close()
    return durable


def _tear(site: Site, durable: int, chance: random.Random) -> int:
    """What a power cut does and kill -9 does not: a last line that nobody waited for loses its end.

    Returns how many bytes of it are left.
    """
    listing = Listing.of(site.folder)
    newest = listing.newest
    path = site.plain(newest)
    if newest not in listing.plain - listing.seals or chance.random() < 0.5:
        return 0
    lines = site.lines(newest)
    parts = split_line(lines[-1]) if lines else None
    last = None if parts is None else decode_body(parts[0])
    if last is None or last.seq <= max(durable, _noted(site)) or last.action.startswith("audit."):
        return 0  # those of the log itself are durable before a writer says anything
    cut = chance.randrange(1, len(lines[-1]))
    path.write_bytes(b"".join(lines)[:-cut])
    return len(lines[-1]) - cut


def _noted(site: Site) -> int:
    return EpochState.read(site.folder / EPOCH_KEY, site.cipher).link.seq
