"""What capturing prompts costs a request, and an auditor who looks for one.

    python -m bench.capture [--rounds 5]

Requests of 32 deltas go through the real API on loopback to the scripted worker: without a capture, with one that is
off, and with one that is on, in turns. The other figures are of the parts alone. Medians.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from appliance.access_config import Capture
from appliance.api.captured import CapturedRequest
from appliance.capture.day_file import files_of
from appliance.capture.prompt_capture import PromptCapture
from appliance.capture.reading import CaptureFilter, find, heads
from appliance.capture.writer import QUEUE_MAX
from appliance.models.stream import Text
from tests.api.conftest import Api, running_api
from tests.unit.capture.making import ON, Site, exchange, record

REQUESTS: Final = 300
AT_ONCE: Final = 8
DELTAS: Final = 32
STORED: Final = 20_000
PROMPT: Final = "p" * 4000
ANSWER: Final = "a" * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-capture-") as name:
        site = Site(Path(name))
        asyncio.run(_requests(site, options.rounds))
    with tempfile.TemporaryDirectory(prefix="bench-capture-") as name:
        _parts(Site(Path(name)))


async def _requests(site: Site, rounds: int) -> None:
    captures: dict[str, PromptCapture | None] = {"none": None, "off": site.capture(), "on": site.capture()}
    seconds: dict[str, list[float]] = {name: [] for name in captures}
    chance = random.Random(1)
    for _ in range(rounds):
        for name, capture in chance.sample(list(captures.items()), len(captures)):
            if capture is not None and name == "on":
                capture.configure(ON)
            async with running_api(capture=capture) as api:
                await _ask(api, 20)
                began = time.process_time()
                await _ask(api, REQUESTS)
                seconds[name].append((time.process_time() - began) / REQUESTS)
            if capture is not None:
                capture.configure(Capture())
    for name, took in seconds.items():
        print(f"capture {name:5} {statistics.median(took) * 1e6:7.0f} us of processor time a request, client included")
    for capture in captures.values():
        if capture is not None:
            capture.close()


async def _ask(api: Api, count: int) -> None:
    script = f"{'x' * len(PROMPT)} started " + " ".join(["say:some_words"] * DELTAS)

    async def some() -> None:
        for _ in range(count // AT_ONCE):
            answer = await api.chat(script, stream=True)
            await answer.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


def _parts(site: Site) -> None:
    capture = site.capture()
    capture.configure(ON)
    body = exchange(prompt=PROMPT).body
    event = Text(choice=0, text=" some words", tokens=1)
    done = record()
    times = []
    for _ in range(QUEUE_MAX // 2):
        began = time.perf_counter()
        captured = CapturedRequest(capture, body, 1, 2**18)
        for _ in range(DELTAS):
            captured.saw(event)
        captured.end(done)
        times.append(time.perf_counter() - began)
    print(f"event loop     {statistics.median(times) * 1e6:7.1f} us a request of {DELTAS} deltas")
    capture.close()
    writer = site.writer()
    began, number = time.perf_counter(), 0
    while number < STORED:
        if writer.put(exchange(f"r{number}", prompt=PROMPT, answer=ANSWER)):
            number += 1
        else:
            time.sleep(0.001)
    writer.close()
    took = time.perf_counter() - began
    size = sum((site.folder / file.name).stat().st_size for file in files_of(site.folder))
    print(f"writer         {took / STORED * 1e6:7.1f} us a request, {size / STORED:.0f} bytes on the disk")
    for what, wanted in (("newest 100", CaptureFilter()), ("none, all looked at", CaptureFilter(principal="nobody"))):
        began = time.perf_counter()
        heads(site.folder, site.cipher, wanted, 100)
        print(f"list           {(time.perf_counter() - began) * 1e3:7.1f} ms ({what} of {STORED})")
    began = time.perf_counter()
    find(site.folder, site.cipher, "r0")
    print(f"find           {(time.perf_counter() - began) * 1e3:7.1f} ms (the oldest of {STORED})")
    site.ring.rotate("capture")
    began = time.perf_counter()
    assert site.reseal()
    took = time.perf_counter() - began
    print(f"reseal         {took:7.2f} s for {size / 2**20:.0f} MiB, {size / 2**20 / took:.0f} MiB/s")


if __name__ == "__main__":
    main()
