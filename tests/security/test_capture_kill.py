"""kill -9 at random moments while requests are captured."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.security.capture_writer import write_for_ever
from tests.unit.capture.making import Site

SEED = 20_261_125


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_what_was_written_is_there_and_the_next_process_goes_on(tmp_path: Path, kills: int) -> None:
    chance = random.Random(SEED)
    site = Site(tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.security.capture_writer"])
    for number in range(kills):
        prefix = f"{number}-"
        written = _run_and_kill(context, tmp_path, prefix, chance.uniform(0, 0.05))
        if chance.random() < 0.5:
            # What a power cut does and kill -9 does not.
            newest = site.paths[-1]
            newest.write_bytes(newest.read_bytes()[: -chance.randrange(1, 200)])
            written -= 1
        ids = set(site.ids())
        assert written > 0
        assert {f"{prefix}{each}" for each in range(written)} <= ids
    assert site.reseal()
    site.ring.rotate("capture")
    assert site.reseal()


def _run_and_kill(context: ForkServerContext, root: Path, prefix: str, seconds: float) -> int:
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=write_for_ever, args=(root, prefix, writer))
    process.start()
    writer.close()
    with reader:
        while (written := int(reader.recv_bytes())) < 5:
            pass
        process.join(seconds)
        process.kill()
        process.join()
        with contextlib.suppress(EOFError):
            while True:
                written = int(reader.recv_bytes())
    process.close()
    return written
