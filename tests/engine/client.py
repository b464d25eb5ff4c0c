"""A small synchronous daemon: starts a worker process and speaks frames with it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from appliance.types import (
    CallChoice,
    ChatMessage,
    ChatPrompt,
    Constraint,
    LogprobParams,
    ModelInfo,
    ModelSpec,
    Prompt,
    SamplingParams,
    TextPrompt,
    TokenLogprob,
)
from appliance.wire import (
    Abort,
    Add,
    Delta,
    Event,
    Failed,
    Finished,
    FromWorker,
    Load,
    Loaded,
    LoadFailed,
    Loading,
    Pooled,
    Scored,
    Started,
    Step,
    ToWorker,
    daemon_reader,
    encode,
)
from tests.fakes.forking_launcher import Child, forked

GREEDY = SamplingParams(temperature=0)


def chat(*contents: str) -> ChatPrompt:
    """A chat prompt of user turns."""
    return ChatPrompt(messages=tuple(ChatMessage(role="user", content=content) for content in contents))


@dataclass
class Answer:
    """Everything a worker said about one request, checked for its order."""

    text: str = ""
    deltas: list[Delta] = field(default_factory=list)
    pooled: dict[int, Pooled] = field(default_factory=dict)
    scored: list[TokenLogprob] = field(default_factory=list)
    started: Started | None = None
    end: Finished | Failed | None = None

    @property
    def finished(self) -> Finished:
        assert isinstance(self.end, Finished), f"ended with {self.end}"
        return self.end

    @property
    def failed(self) -> Failed:
        assert isinstance(self.end, Failed), f"ended with {self.end}"
        return self.end

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [logprob for delta in self.deltas for logprob in delta.logprobs]

    def take(self, event: Event) -> None:
        assert self.end is None, f"{event} after {self.end}"
        match event:
            case Started():
                assert self.started is None and not self.deltas
                self.started = event
            case Delta():
                assert self.started is not None and (event.text or self.scored)
                self.deltas.append(event)
                self.text += event.text
            case Scored():
                assert self.started is not None and not self.deltas
                self.scored += event.logprobs
            case Pooled():
                assert self.started is not None and event.index not in self.pooled
                self.pooled[event.index] = event
            case Finished() | Failed():
                self.end = event

    def vectors(self) -> NDArray[np.float32]:
        """One row for each input, in their order."""
        assert sorted(self.pooled) == list(range(len(self.pooled)))
        return np.array([np.frombuffer(self.pooled[index].values, "<f4") for index in sorted(self.pooled)])


def started(module: str, connection: socket.socket) -> subprocess.Popen[bytes]:
    """A fresh process on the connection, as the daemon starts one. `module` is the entry to start."""
    return subprocess.Popen(
        [sys.executable, "-m", module, "--fd", str(connection.fileno())],
        pass_fds=[connection.fileno()],
        stdin=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )


class WorkerClient:
    """One worker process. `module` is the entry to start; `silence` the seconds a frame may take.

    fork: from a process that has all imported, for tests that start many and are not about the process.
    """

    def __init__(self, module: str = "appliance.worker", silence: float = 60.0, *, fork: bool = False) -> None:
        ours, theirs = socket.socketpair()
        self.connection = ours
        self.connection.settimeout(silence)
        with theirs:
            self.process: subprocess.Popen[bytes] | Child = (
                forked("tests.engine.fork_server", theirs) if fork else started(module, theirs)
            )
        self._frames = daemon_reader()
        self.answers: dict[int, Answer] = {}
        self.step = Step()
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert kind is not None or status == 0, f"the worker ended with {status}"

    def send(self, message: ToWorker) -> None:
        self.connection.sendall(encode(message))

    def receive(self) -> list[FromWorker]:
        """The next messages; empty when the worker has gone."""
        while True:
            try:
                data = self.connection.recv(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                return []
            if messages := self._frames.feed(data):
                return messages

    def begin_load(
        self,
        spec: ModelSpec,
        *,
        load_seconds_max: float = 60,
        step_seconds_max: float = 30,
        template_seconds_max: float = 30,
    ) -> None:
        self.send(
            Load(
                spec=spec,
                load_seconds_max=load_seconds_max,
                step_seconds_max=step_seconds_max,
                template_seconds_max=template_seconds_max,
            )
        )

    def load(self, spec: ModelSpec, *, step_seconds_max: float = 30, template_seconds_max: float = 30) -> ModelInfo:
        self.begin_load(spec, step_seconds_max=step_seconds_max, template_seconds_max=template_seconds_max)
        outcome = self.load_outcome()
        assert isinstance(outcome, Loaded), outcome
        return outcome.info

    def load_outcome(self) -> Loaded | LoadFailed:
        fraction = 0.0
        while messages := self.receive():
            for message in messages:
                if isinstance(message, Loading):
                    assert fraction < message.fraction <= 1
                    fraction = message.fraction
                elif isinstance(message, Loaded | LoadFailed):
                    return message
        raise AssertionError("the worker ended while it loaded")

    def add(
        self,
        prompt: Prompt | str,
        *,
        sampling: SamplingParams = GREEDY,
        max_tokens: int | None = 32,
        stop: Iterable[str] = (),
        domain: str = "tests",
        logprobs: LogprobParams | None = None,
        reasoning_budget: int | None = None,
        constraint: Constraint | None = None,
        must_call: CallChoice | None = None,
    ) -> int:
        self._number += 1
        self.answers[self._number] = Answer()
        self.send(
            Add(
                number=self._number,
                principal=domain,
                cache_domain=domain,
                prompt=TextPrompt(text=prompt) if isinstance(prompt, str) else prompt,
                sampling=sampling,
                max_tokens=max_tokens,
                stop=tuple(stop),
                logprobs=logprobs,
                reasoning_budget=reasoning_budget,
                constraint=constraint,
                must_call=must_call,
            )
        )
        return self._number

    def abort(self, number: int) -> None:
        self.send(Abort(number=number))

    def pump(self, until: Callable[[], bool]) -> None:
        """Takes frames until a condition holds."""
        while not until():
            self.pump_once()

    def pump_once(self) -> None:
        """Takes the frames that are there, at least one."""
        messages = self.receive()
        assert messages, "the worker has gone"
        for message in messages:
            assert isinstance(message, Step), message
            self.step = message
            for event in message.events:
                self.answers[event.number].take(event)

    def wait(self, *numbers: int) -> list[Answer]:
        """The answers of these requests, once all have ended."""
        self.pump(lambda: all(self.answers[number].end is not None for number in numbers))
        return [self.answers[number] for number in numbers]

    def ask(
        self,
        prompt: Prompt | str,
        *,
        sampling: SamplingParams = GREEDY,
        max_tokens: int | None = 32,
        stop: Iterable[str] = (),
        domain: str = "tests",
        logprobs: LogprobParams | None = None,
        reasoning_budget: int | None = None,
        constraint: Constraint | None = None,
        must_call: CallChoice | None = None,
    ) -> Answer:
        """One request from its start to its end."""
        number = self.add(
            prompt,
            sampling=sampling,
            max_tokens=max_tokens,
            stop=stop,
            domain=domain,
            logprobs=logprobs,
            reasoning_budget=reasoning_budget,
            constraint=constraint,
            must_call=must_call,
        )
        return self.wait(number)[0]

    def wait_gone(self, seconds: float = 60) -> int:
        """The exit status; fails when the worker still runs after `seconds`."""
        began = time.monotonic()
        self.connection.settimeout(seconds)
        while self.receive():
            pass
        return self.process.wait(max(0.1, seconds - (time.monotonic() - began)))
