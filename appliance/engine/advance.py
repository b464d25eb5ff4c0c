"""What one step did to one sequence, and the events that tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.sequence import Sequence
from appliance.errors import RequestError
from appliance.types import FinishReason, TokenLogprob
from appliance.wire import Delta, Event, Failed, Finished


@dataclass(frozen=True, slots=True)
class Sampled:
    """A drawn token. piece: its bytes in the text. is_end: it ends the answer (and has no text).

    logprob: what the request asked to know about it. complete: with it the text is all that its constraint asks for.
    failure: the answer cannot go on; then there is no token.
    """

    token: int
    piece: bytes
    is_end: bool
    logprob: TokenLogprob | None = None
    complete: bool = False
    failure: RequestError | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """A sequence got a token, an end, or both; or it failed.

    Only the end decides about the next step; making the text can wait until the device is busy with it. So the text is
    here already only where the end hung on it: a sequence with stop strings. now: when the step was done.
    """

    sequence: Sequence
    sampled: Sampled | None
    reason: FinishReason | None
    now: float
    text: str | None = None

    def events(self) -> list[Event]:
        """New text and the end. To be called once, in the order of the steps."""
        sequence = self.sequence
        if self.sampled is not None and (error := self.sampled.failure) is not None:
            return [Failed(number=sequence.number, code=error.code, message=error.message, param=error.param)]
        text = self.text
        if text is None:
            text = "" if self.sampled is None or self.sampled.is_end else sequence.detokenizer.push(self.sampled.piece)
        if self.reason is not None:
            text += sequence.detokenizer.finish()
        events: list[Event] = []
        if text or (self.reason is not None and sequence.reports_prompt and sequence.unreported):
            count, logprobs = sequence.report()
            events.append(Delta(number=sequence.number, text=text, tokens=count, logprobs=logprobs))
        if self.reason is not None:
            timings = sequence.timings(self.now)
            events.append(
                Finished(
                    number=sequence.number,
                    reason=self.reason,
                    usage=sequence.usage,
                    timings=timings,
                    stopped_by=sequence.detokenizer.stopped_by,
                )
            )
        return events
