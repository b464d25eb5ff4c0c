"""A request inside the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.engine.detokenizer import Detokenizer
from appliance.engine.thought import ThoughtBudget
from appliance.errors import RequestError
from appliance.types import AnswerFormat, LogprobParams, SamplingParams, Timings, TokenLogprob, Usage


class DryPenalty(Protocol):
    """A sampler against repetition that the io thread made. last_n: tokens that it looks back on."""

    @property
    def last_n(self) -> int: ...

    def take(self) -> Any:
        """The sampler itself, for the runner to own."""
        ...


class Matcher(Protocol):
    """How far an answer has come in its constraint; see `engine.constraint.Matcher`.

    complete: the answer is whole and nothing can follow. failure: why it cannot go on.
    """

    @property
    def complete(self) -> bool: ...

    @property
    def failure(self) -> RequestError | None: ...

    def fill(self, words: NDArray[np.uint32]) -> None:
        """Writes which tokens may come next."""
        ...

    def accept(self, token: int, piece: bytes, *, is_end: bool) -> None:
        """The token is part of the answer, or its end."""
        ...

    def refuse(self, message: str) -> None:
        """The answer cannot go on."""
        ...


@dataclass(slots=True, eq=False)
class Sequence:
    """All state of one request that outlives a step. Made by the io thread, then owned by the engine thread.

    number: the daemon's name for the request; grows with arrival. tokens: the prompt, then the answer so far.
    output_max: most tokens to sample. cache_domain: who may share KV cache with it. cached: prompt tokens found in the
    KV cache. principal, flow, weight, priority: whose turn it is. logprobs: what to report of each token. dry: the
    sampler that `sampling` asks for. matcher: what its text must be. charged: service charged in advance for prompt
    tokens that may not be computed yet. saved: tokens whose cells are in host memory. passed_over: steps of prompts in
    a row in which others went first. answer: how its text is to be read. spoken: control tokens that come out as text
    all the same, by that format. scored: tokens of the prompt that are reported. thought: bounds how long it may
    think. token_seconds: what a token of its last piece cost, see PrefillPace. Times are in seconds of the engine's
    clock; `deadline` is one of its moments.
    """

    number: int
    tokens: list[int]
    output_max: int
    sampling: SamplingParams
    detokenizer: Detokenizer
    arrived: float
    cache_domain: str = ""
    principal: str = ""
    flow: str = ""
    weight: float = 1.0
    priority: int = 0
    deadline: float = math.inf
    logprobs: LogprobParams | None = None
    dry: DryPenalty | None = None
    matcher: Matcher | None = None
    prompt_tokens: int = field(init=False)
    cached: int = 0
    started: float | None = None
    first_sampled: float | None = None
    unreported: int = 0
    charged: float = 0.0
    saved: int = 0
    passed_over: int = 0
    token_seconds: float = 0.0
    unreported_logprobs: list[TokenLogprob] = field(default_factory=list)
    answer: AnswerFormat | None = None
    spoken: Mapping[int, bytes] = field(default_factory=dict)
    scored: int = 0
    thought: ThoughtBudget | None = None

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)

    @property
    def reports_prompt(self) -> bool:
        """Whether every token counts, those of the prompt too."""
        return self.logprobs is not None and self.logprobs.prompt_max > 0

    @property
    def scoring(self) -> bool:
        """Whether some of the prompt is still to be reported."""
        return self.reports_prompt and self.scored < self.prompt_tokens

    @property
    def reusable(self) -> int:
        """How much of it may be found in the KV cache: what is before a token is computed for that token's sake."""
        return max(0, self.scored - 1) if self.scoring else len(self.tokens) - 1

    @property
    def output_tokens(self) -> int:
        """Tokens sampled so far."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def output_left(self) -> int:
        """Tokens that may still be sampled."""
        return self.output_max - self.output_tokens

    def append(self, token: int, now: float, logprob: TokenLogprob | None = None) -> None:
        """Takes a sampled token and what is to be reported of it."""
        self.tokens.append(token)
        self.unreported += 1
        if logprob is not None:
            self.unreported_logprobs.append(logprob)
        if self.first_sampled is None:
            self.first_sampled = now

    @property
    def forced(self) -> int | None:
        """The token that is to be drawn next, whatever the model wants; None where it is free."""
        return None if self.thought is None else self.thought.forced

    def report(self) -> tuple[int, tuple[TokenLogprob, ...]]:
        """How many tokens were sampled since the last call, and what is to be reported of them."""
        count, self.unreported = self.unreported, 0
        logprobs = tuple(self.unreported_logprobs)
        self.unreported_logprobs.clear()
        return count, logprobs

    @property
    def usage(self) -> Usage:
        """What the request has used so far."""
        return Usage(prompt_tokens=self.prompt_tokens, completion_tokens=self.output_tokens, cached_tokens=self.cached)

    def timings(self, now: float) -> Timings:
        """Where the time went until `now`."""
        started = now if self.started is None else self.started
        first = now if self.first_sampled is None else self.first_sampled
        return Timings(
            queue_seconds=started - self.arrived, prefill_seconds=first - started, decode_seconds=now - first
        )
