"""Receives requests: everything that can refuse one happens here, before the engine thread sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from appliance.chat.reasoning import THOUGHTS
from appliance.engine.detokenizer import Detokenizer
from appliance.engine.loop import EngineLoop
from appliance.engine.prompt import ReadPrompt
from appliance.engine.sequence import DryPenalty, Sequence
from appliance.engine.thought import ThoughtBudget
from appliance.errors import RequestError
from appliance.types import AnswerFormat, CallChoice, Constraint, Prompt, Reading, SamplingParams
from appliance.wire import Abort, Add, Failed, PromptRead, Step
from appliance.worker.constraining import Compiler, Constraining
from appliance.worker.looking import looked_at
from appliance.worker.refusing import refuse, refuse_unreadable


class PromptReader(Protocol):
    """Makes tokens of a prompt."""

    def read(self, prompt: Prompt, must_call: CallChoice | None = None) -> ReadPrompt:
        """The tokens, how their answer is to be read, and what keeps it to calls. Raises RequestError."""
        ...

    def look(self, number: int, prompt: Prompt, reading: Reading) -> PromptRead:
        """What it is to the model. Raises RequestError."""
        ...


class Preparer(Protocol):
    """Looks at sampling parameters with the model's eyes."""

    def prepare(self, params: SamplingParams) -> DryPenalty | None:
        """The sampler against repetition, where they ask for one. Raises RequestError."""
        ...


class Intake:
    """Belongs to the io thread, which is the main thread; `constraining.run` to a thread of its own.

    `send` may be called beside the engine thread's.
    """

    def __init__(
        self,
        reader: PromptReader,
        preparer: Preparer,
        compiler: Compiler,
        loop: EngineLoop,
        n_ctx: int,
        send: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._preparer = preparer
        self._loop = loop
        self._n_ctx = n_ctx
        self._send = send
        self._clock = clock
        self.constraining = Constraining(compiler, loop.submit, self._refuse, lambda: not loop.busy)

    def add(self, add: Add) -> None:
        """Hands the request to the engine, or answers it with the one Failed it gets."""
        try:
            if add.reading is not None:
                self._look(add, add.reading)
                return
            sequence, constraint = self._sequence(add)
            if constraint is None:
                self._loop.submit(sequence)
            else:
                self.constraining.take(sequence, _after_thoughts(constraint, sequence.answer))
        except RequestError as error:
            self._refuse(add.number, error)
        except Exception as error:
            refuse_unreadable(add.number, error, self._loop.status, self._send)

    def abort(self, abort: Abort) -> None:
        """Passes on the wish to end a request."""
        if self.constraining.abort(abort.number):
            aborted = Failed(number=abort.number, code=None, message="aborted")
            self._send(msgspec.structs.replace(self._loop.status, events=(aborted,)))
        else:
            self._loop.abort(abort.number)

    def _look(self, add: Add, reading: Reading) -> None:
        events = looked_at(self._reader.look(add.number, add.prompt, reading))
        self._send(msgspec.structs.replace(self._loop.status, events=events))

    def _sequence(self, add: Add) -> tuple[Sequence, Constraint | None]:
        """And what its answer must be."""
        arrived = self._clock()
        if add.max_tokens is not None and add.max_tokens < 0:
            raise RequestError("invalid_request", "max_tokens must be at least 0", param="max_tokens")
        prompt = self._reader.read(add.prompt, add.must_call)
        _check_reported(add, len(prompt.tokens))
        room = self._n_ctx - len(prompt.tokens)
        sequence = Sequence(
            number=add.number,
            tokens=prompt.tokens,
            output_max=room if add.max_tokens is None else min(add.max_tokens, room),
            sampling=add.sampling,
            detokenizer=Detokenizer(add.stop),
            arrived=arrived,
            cache_domain=add.cache_domain,
            principal=add.principal,
            flow=add.flow,
            weight=add.weight,
            priority=add.priority,
            deadline=arrived + add.seconds_max,
            logprobs=add.logprobs,
            dry=self._preparer.prepare(add.sampling),
            answer=prompt.answer,
            spoken=prompt.spoken,
            thought=_thought(prompt, add.reasoning_budget),
        )
        return sequence, add.constraint or prompt.constraint

    def _refuse(self, number: int, error: RequestError) -> None:
        refuse(number, error, self._loop.status, self._send)


def _check_reported(add: Add, tokens: int) -> None:
    """An answer that told of each token of a long prompt would be larger than anybody wants to hold."""
    if add.logprobs is not None and 0 < add.logprobs.prompt_max < tokens:
        message = (
            f"logprobs: with echo a prompt may have {add.logprobs.prompt_max} tokens, and this one has {tokens}; ask "
            "for fewer of the likeliest tokens, or send fewer prompts in one request"
        )
        raise RequestError("invalid_request", message, param="logprobs")


def _thought(prompt: ReadPrompt, tokens_max: int | None) -> ThoughtBudget | None:
    """Where a model does not think, or nobody knows how it ends a thought, there is nothing to bound."""
    if tokens_max is None or prompt.answer is None or not prompt.closing:
        return None
    return ThoughtBudget(prompt.answer, tokens_max, prompt.closing)


def _after_thoughts(constraint: Constraint, answer: AnswerFormat | None) -> Constraint:
    """A model that thinks may do so before what must be of some form."""
    if constraint.thinks is not None or answer is None or answer.reasoning not in THOUGHTS:
        return constraint
    return msgspec.structs.replace(constraint, thinks=THOUGHTS[answer.reasoning])
