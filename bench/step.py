"""The host's part of an engine step: everything but the device's computing.

    python -m bench.step [--sequences 16] [--shape 7b] [--profile]

First a device that is simulated by a pause of 10 ms, 64 sequences: how much throughput the host costs. Then the real
model in this process, its sequences decoding: where a step's host time goes. Frames go through a real socket to
another process, as they do in a worker. Medians over the steps in which all sequences decode.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import itertools
import pstats
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import llama_cpp

from appliance.engine.detokenizer import Detokenizer
from appliance.engine.limits import Limits
from appliance.engine.loop import EngineLoop, Runner
from appliance.engine.plan import Plan
from appliance.engine.runner import load
from appliance.engine.scheduler import Scheduler
from appliance.engine.sequence import Sequence
from appliance.types import ModelSpec, SamplingParams
from appliance.wire import Finished, Step
from appliance.worker.channel import Channel
from bench.bare_engine import NoGuard
from bench.shape_model import SHAPES, Shape, build
from bench.simulated_device import SimulatedDevice
from bench.stopwatch import Laps, Stopwatch
from bench.workload import SAMPLING, numbered

SEQUENCES: Final = 16
SIMULATED_SEQUENCES: Final = 64
SIMULATED_STEP_SECONDS: Final = 0.010
PROMPT_WORDS: Final = 64
PROFILE_LINES: Final = 30


class _AllDone(Exception):
    """Ends the loop, which has no end of its own."""


class _Sink:
    """The daemon's end of the frames. last: the newest frame."""

    def __init__(self, channel: Channel, requests: int) -> None:
        self._channel = channel
        self._left = requests
        self.last = Step()

    def send(self, step: Step) -> None:
        """Sends the frame. Raises _AllDone after the last request's end."""
        self._channel.send(step)
        self.last = step
        self._left -= sum(isinstance(event, Finished) for event in step.events)
        if self._left == 0:
            raise _AllDone


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of one step. parts: the host's, by name; they sum up to `host`."""

    total: float
    device: float
    parts: dict[str, float]

    @property
    def host(self) -> float:
        """All but the device."""
        return self.total - self.device

    @classmethod
    def of(cls, laps: Laps, ended: float) -> StepTimes:
        """The device works from its first call to the end of its last; what the host does meanwhile costs nothing.

        In `launch`, what comes before the device is the batch's filling; in `collect`, what comes after it is sampling.
        """
        began, finished = laps.spans["device"][0][0], laps.spans["device"][-1][1]
        total, device = ended - laps.began, finished - began
        parts = {
            "schedule": laps.total("schedule"),
            "batch fill": began - laps.spans["launch"][0][0],
            "sampling": laps.spans["collect"][0][1] - finished,
            "commit": laps.total("commit"),
            "frames": sum(end - start for start, end in laps.spans["frames"] if not began <= start < finished),
        }
        return cls(total, device, {**parts, "text and rest": total - device - sum(parts.values())})


@dataclass(frozen=True, slots=True)
class Measured:
    """steps: those in which all sequences decode. last: the last frame, with the loop's own counters."""

    steps: list[StepTimes]
    last: Step


@contextmanager
def _sink(requests: int) -> Iterator[_Sink]:
    """Frames go to a process that throws them away."""
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(["cat"], stdin=theirs.fileno(), stdout=subprocess.DEVNULL) as reader:
        yield _Sink(Channel(ours), requests)
        ours.shutdown(socket.SHUT_RDWR)
        reader.wait()


def run(runner: Runner, limits: Limits, sequences: list[Sequence], profile: cProfile.Profile | None) -> Measured:
    """Runs the sequences to their ends in this thread, under the profiler where one is given."""
    scheduler, watch = Scheduler(limits), Stopwatch()
    with _sink(len(sequences)) as sink:
        watch.open_with(scheduler, "schedule")
        watch.around(runner, "launch", "launch")
        watch.around(runner, "collect", "collect")
        watch.around(scheduler, "commit", "commit")
        watch.around(sink, "send", "frames")
        for owner, name in _device_calls(runner):
            watch.around(owner, name, "device")
        loop = EngineLoop(runner, scheduler, NoGuard(), sink.send)
        for sequence in sequences:
            loop.submit(sequence)
        with contextlib.suppress(_AllDone), profile or contextlib.nullcontext():
            loop.run()
    return Measured(_full_steps(watch.laps, len(sequences)), sink.last)


def _device_calls(runner: Runner) -> list[tuple[object, str]]:
    """The calls between which the device computes."""
    if isinstance(runner, SimulatedDevice):
        return [(runner, "begin"), (runner, "compute")]
    return [(llama_cpp, "llama_decode"), (llama_cpp, "llama_synchronize")]


def _full_steps(laps: list[Laps], sequences: int) -> list[StepTimes]:
    """The steps in which every sequence decodes one token; the last of a run has no end."""
    return [
        StepTimes.of(lap, following.began)
        for lap, following in itertools.pairwise(laps)
        if isinstance(lap.result, Plan) and len(lap.result.items) == lap.result.tokens == sequences
    ]


def real_model(count: int, tokens: int, shape: Shape, profile: cProfile.Profile | None) -> None:
    """Prints where the time of a step goes with the real model and `count` sequences."""
    spec = ModelSpec(id="bench", path=str(build(shape).resolve()), parallel=count, n_ctx=count * 2048)
    runner = load(spec, lambda _: None)
    questions = [numbered(number, PROMPT_WORDS, tokens) for number in range(count)]
    sequences = [
        _sequence(number, runner.vocabulary.tokenize(question.prompt), tokens, question.sampling)
        for number, question in enumerate(questions)
    ]
    measured = run(runner, runner.limits, sequences, profile)
    steps = measured.steps
    host = statistics.median(step.host for step in steps)
    print(f"{count} sequences of the {runner.info.description} shape, {len(steps)} steps, medians:")
    print(f"  device      {statistics.median(step.device for step in steps) * 1000:8.3f} ms")
    print(f"  host        {host * 1000:8.3f} ms, of which")
    for part in steps[0].parts:
        print(f"    {part:14}{statistics.median(step.parts[part] for step in steps) * 1000:8.3f} ms")
    if (last := measured.last).steps:
        print(
            f"  by the loop's own counters, prompts included: device {last.device_seconds / last.steps * 1000:.3f} ms,"
        )
        print(f"  host {last.host_seconds / last.steps * 1000:.3f} ms a step over {last.steps} steps")


def simulated(tokens: int) -> None:
    """Prints how much throughput the host costs beside a device of SIMULATED_STEP_SECONDS."""
    device = SimulatedDevice(SIMULATED_SEQUENCES, 2048, SIMULATED_STEP_SECONDS)
    sequences = [_sequence(number, [number] * PROMPT_WORDS, tokens, SAMPLING) for number in range(SIMULATED_SEQUENCES)]
    steps = run(device, device.limits, sequences, None).steps
    took, computed = (statistics.mean(getattr(step, part) for step in steps) for part in ("total", "device"))
    ideal = SIMULATED_SEQUENCES / SIMULATED_STEP_SECONDS
    print(f"{SIMULATED_SEQUENCES} sequences, simulated device of {SIMULATED_STEP_SECONDS * 1000:.0f} ms, ", end="")
    print(f"{len(steps)} steps: {SIMULATED_SEQUENCES / took:.0f} of {ideal:.0f} tok/s, ", end="")
    print(f"lost {(1 - SIMULATED_STEP_SECONDS / took) * 100:.1f} %")
    print(f"  host {(took - computed) * 1000:.3f} ms a step; ", end="")
    print(f"the pause itself took {computed * 1000:.3f} ms, so {(1 - computed / took) * 100:.1f} % are the host's")


def _sequence(number: int, prompt: list[int], tokens: int, sampling: SamplingParams) -> Sequence:
    return Sequence(
        number=number,
        tokens=prompt,
        output_max=tokens,
        sampling=sampling,
        detokenizer=Detokenizer(),
        arrived=time.monotonic(),
    )


def main() -> None:
    """Both measurements, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="run the real model under cProfile; distorts the times")
    parser.add_argument("--sequences", type=int, default=SEQUENCES, help="of the real model; default %(default)s")
    parser.add_argument("--shape", choices=SHAPES, default="0.5b", help="of the real model")
    parser.add_argument("--quick", action="store_true", help="few steps: does it work at all?")
    arguments = parser.parse_args()
    profile = cProfile.Profile() if arguments.profile else None
    simulated(tokens=10 if arguments.quick else 400)
    real_model(arguments.sequences, 10 if arguments.quick else 200, SHAPES[arguments.shape], profile)
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(PROFILE_LINES)


if __name__ == "__main__":
    main()
