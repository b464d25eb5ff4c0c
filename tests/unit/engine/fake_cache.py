"""A KV cache of lists, and a model with a closed form.

The token after a sequence is a checksum of all of it, so that a batch computed from wrong, missing or reordered tokens
gives another answer.
"""

from __future__ import annotations

from appliance.engine.advance import Sampled
from appliance.engine.limits import Limits
from appliance.engine.plan import CopyPrefix, KeepPrefix, Plan, RestoreState, SaveState, SwapSlots
from appliance.types import TokenLogprob

# Tokens below this end an answer.
ENDS = 3


class FakeCache:
    """Keeps what a KV cache would, and draws the token that follows from it."""

    def __init__(self, of: Limits) -> None:
        self.limits = of
        self.slots: dict[int, list[int]] = {index: [] for index in range(of.n_slots)}
        self.saved: dict[int, list[int]] = {}

    def execute(self, plan: Plan) -> list[Sampled]:
        self.change(plan)
        assert plan.tokens <= self.limits.n_batch
        assert [item.slot for item in plan.items] == sorted({item.slot for item in plan.items})
        assert not plan.decoding or all(item.sample and len(item.tokens) == 1 for item in plan.items)
        sampled = []
        for item in plan.items:
            cells = self.slots[item.slot]
            assert item.tokens and item.start == len(cells)
            cells += item.tokens
            assert all(0 <= place < len(item.tokens) for place in item.outputs), "it is not in the batch"
            assert len(cells) <= self.limits.n_ctx
            if item.sample:
                assert cells == item.sequence.tokens
                sampled.append(following(cells))
        return sampled

    def score(self, plan: Plan) -> list[tuple[TokenLogprob, ...]]:
        """The tokens alone; what is known of them is not a matter of the schedule."""
        assert sum(len(item.scores) for item in plan.items) <= self.limits.scored_max + len(plan.items)
        return [
            tuple(TokenLogprob(item.sequence.tokens[place], b"", 0.0) for place in item.scores)
            for item in plan.items
            if item.scores
        ]

    def change(self, plan: Plan) -> None:
        for op in plan.cache:
            cells = self.slots[op.slot]
            match op:
                case KeepPrefix():
                    assert op.keep < len(cells)
                    del cells[op.keep :]
                case CopyPrefix():
                    source = self.slots[op.source]
                    assert not cells and op.keep <= len(source)
                    assert self.limits.reuse == "any" or op.keep == len(source), "a state is copied whole"
                    cells += source[: op.keep]
                case SaveState():
                    self.saved[op.number] = list(cells)
                case RestoreState():
                    assert not cells
                    cells += self.saved.pop(op.number)
                case SwapSlots():
                    self.slots[op.slot], self.slots[op.other] = self.slots[op.other], cells


def following(tokens: list[int]) -> Sampled:
    token = sum((index + 1) * (token + 1) for index, token in enumerate(tokens)) % 97
    return Sampled(token, f"<{token}>".encode(), token < ENDS)


def expected(prompt: list[int], output_max: int) -> str:
    """The whole answer, computed alone."""
    tokens, text = list(prompt), ""
    for _ in range(output_max):
        sampled = following(tokens)
        tokens.append(sampled.token)
        if sampled.is_end:
            break
        text += sampled.piece.decode()
    return text
