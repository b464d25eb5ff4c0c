"""The samplers of the requests that are being answered."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

from appliance.engine.advance import Sampled
from appliance.engine.runner.sampler import Sampler
from appliance.engine.runner.vocabulary import Vocabulary
from appliance.engine.sequence import Sequence


class Samplers:
    """Made at a request's first token, kept through preemptions, freed by `close`. Belongs to the engine thread."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._samplers: dict[int, Sampler] = {}

    def __len__(self) -> int:
        return len(self._samplers)

    def draw(self, context: Any, sequences: Items[Sequence], rows: Items[int]) -> tuple[Sampled, ...]:
        """A token for each sequence from its batch row."""
        return tuple(self._sample(context, sequence, row) for sequence, row in zip(sequences, rows, strict=True))

    def close(self, number: int) -> None:
        """The request has ended."""
        if (sampler := self._samplers.pop(number, None)) is not None:
            sampler.close()

    def _sample(self, context: Any, sequence: Sequence, row: int) -> Sampled:
        sampler = self._samplers.get(sequence.number)
        if sampler is None:
            sampler = Sampler(sequence.sampling, self._vocabulary, sequence.tokens)
            self._samplers[sequence.number] = sampler
        token = sampler.sample(context, row)
        return Sampled(token, self._vocabulary.pieces[token], token in self._vocabulary.ends)
