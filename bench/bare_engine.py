"""The engine loop alone: no process border, no HTTP, no TLS. What the appliance's overhead is measured against."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from appliance.engine.constraint import Compiler
from appliance.engine.loop import EngineLoop
from appliance.engine.prompt import PromptReader
from appliance.engine.runner import load
from appliance.engine.scheduler import Scheduler
from appliance.types import Constraint, ModelSpec, TextPrompt
from appliance.wire import Add, Delta, Failed, Finished, Step
from appliance.worker.intake import Intake
from bench.workload import Question


@dataclass
class BareAnswer:
    """One request's times, by the monotonic clock, and its tokens. first: the first text, or the end without any.

    busy: the engine thread's processor time at the first text and at the end.
    """

    submitted: float
    first: float = 0.0
    tokens: int = 0
    ended: float = 0.0
    busy: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)


class NoGuard:
    """Nobody watches these steps."""

    def step(self, tokens: int) -> None: ...

    def rest(self) -> None: ...


class BareEngine:
    """Loads `spec` in this process and runs its loop in a thread that lives as long as the process.

    One thread loads and computes, as in a worker: OpenMP gives every computing thread a team of its own, and with more
    threads than cores it stops spinning at barriers, which costs a fifth of the speed.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._answers: dict[int, BareAnswer] = {}
        self._intake: Intake | None = None
        ready = threading.Event()
        threading.Thread(target=self._run, args=(spec, ready), name="bare engine", daemon=True).start()
        ready.wait()

    def _run(self, spec: ModelSpec, ready: threading.Event) -> None:
        runner = load(spec, lambda fraction: None)
        loop = EngineLoop(runner, Scheduler(runner.limits), NoGuard(), self._take)
        reader = PromptReader(runner.vocabulary, None, runner.limits.n_ctx)
        compiler = Compiler(runner.vocabulary)
        self._intake = Intake(reader, runner.preparer, compiler, loop, runner.limits.n_ctx, self._take)
        threading.Thread(target=self._intake.constraining.run, name="constraining", daemon=True).start()
        ready.set()
        loop.run()

    def submit(self, question: Question, constraint: Constraint | None = None) -> BareAnswer:
        """Starts one request that runs to its last token."""
        assert self._intake is not None
        answer = BareAnswer(time.monotonic())
        number = len(self._answers) + 1
        self._answers[number] = answer
        self._intake.add(
            Add(
                number=number,
                principal="bench",
                cache_domain="bench",
                prompt=TextPrompt(text=question.prompt),
                sampling=question.sampling,
                max_tokens=question.tokens,
                stop=(),
                constraint=constraint,
            )
        )
        return answer

    def _take(self, step: Step) -> None:
        now = time.monotonic()
        for event in step.events:
            answer = self._answers[event.number]
            match event:
                case Delta():
                    if not answer.first:
                        answer.busy.append(time.thread_time())
                    answer.first = answer.first or now
                case Finished():
                    answer.first = answer.first or now
                    answer.ended = now
                    answer.busy.append(time.thread_time())
                    answer.tokens = event.usage.completion_tokens
                    answer.done.set()
                case Failed():
                    raise AssertionError(event.message)
