"""Draws the next tokens of all sequences of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.engine.advance import Sampled
from appliance.engine.runner import logprobs
from appliance.engine.runner.candidates import Candidates
from appliance.engine.runner.sampler import Sampler
from appliance.engine.runner.shortlist import shortlist
from appliance.engine.runner.vocabulary import TokenTable
from appliance.engine.sequence import Sequence
from appliance.types import LogprobParams, TokenLogprob

Logits = NDArray[np.float32]

# Rows are looked at more than once: so many at a time that they stay in the processor's cache meanwhile.
_CACHE_BYTES: Final = 16 * 2**20
# For so few rows llama.cpp's own pass over a whole vocabulary is faster than ours, whose cost hardly grows with them.
_FEW_ROWS: Final = 3

# llama.cpp's own draw: (chain, row of the step's logits) → token, which the chain has accepted then.
NativeDraw = Callable[[Any, int], int]


class Samplers:
    """Owns the sampler of each live request, by its number, until `close`: a preempted request goes on as if it had
    not been. Belongs to the engine thread.

    A draw depends on the request's row, parameters, tokens and seed, never on the rows beside it.
    """

    def __init__(self, vocabulary: TokenTable) -> None:
        self._vocabulary = vocabulary
        self._live: dict[int, Sampler] = {}

    def __len__(self) -> int:
        return len(self._live)

    def draw(self, logits: Logits, sequences: Items[Sequence], native: NativeDraw | None = None) -> tuple[Sampled, ...]:
        """A token for each sequence; row i of `logits`, which is only read, belongs to sequence i."""
        turns = [_Turn(self._of(sequence), logits[row]) for row, sequence in enumerate(sequences)]
        listed, whole = [], []
        for row, turn in enumerate(turns):
            if (forced := sequences[row].forced) is not None:
                turn.token, turn.forced = forced, True
            elif turn.sampler.plain:
                turn.token = _first_maximum(turn.row)
            elif turn.sampler.best is not None:
                listed.append(row)
            else:
                whole.append(row)
        if native is not None:
            few = listed if len(listed) <= _FEW_ROWS else []
            done = {row for row in (*few, *whole) if _draw_natively(native, row, turns[row], sequences[row].logprobs)}
            listed, whole = [[row for row in rows if row not in done] for rows in (listed, whole)]
        for rows in _batches(listed, logits):
            _draw_from_shortlists(logits, rows, [turns[row] for row in rows])
        for rows in _batches(whole, logits):
            _draw_from_all(logits, rows, [turns[row] for row in rows])
        return tuple(self._sampled(turn, sequence) for turn, sequence in zip(turns, sequences, strict=True))

    def close(self, number: int) -> None:
        """The request has ended; unknown numbers are ignored."""
        if (sampler := self._live.pop(number, None)) is not None:
            sampler.close()

    def _of(self, sequence: Sequence) -> Sampler:
        sampler = self._live.get(sequence.number)
        if sampler is None:
            sampler = self._live[sequence.number] = Sampler(sequence, self._vocabulary)
        return sampler

    def _sampled(self, turn: _Turn, sequence: Sequence) -> Sampled:
        token = turn.token
        turn.sampler.accept(token, by_chain=not turn.accepted)
        logprob = None if sequence.logprobs is None else self._logprob(turn, sequence.logprobs)
        piece = self._vocabulary.pieces[token] or sequence.spoken.get(token, b"")
        if sequence.thought is not None:
            sequence.thought.drew(piece)
        return Sampled(token, piece, token in self._vocabulary.ends, logprob)

    def _logprob(self, turn: _Turn, wanted: LogprobParams) -> TokenLogprob:
        pieces = self._vocabulary.pieces
        if not wanted.processed:
            return logprobs.of_model(turn.row, turn.token, wanted.top, pieces)
        if turn.sampler.greedy or turn.forced:
            return logprobs.of_certainty(turn.token, wanted.top, pieces)
        assert turn.candidates is not None
        tokens, probabilities = turn.candidates.left(turn.place)
        return logprobs.of_draw(tokens, probabilities, turn.token, wanted.top, pieces)


class _Turn:
    """One draw of one request. place: which of the candidates' arrays it was drawn from. accepted: the chain knows.

    forced: nothing was drawn.
    """

    __slots__ = ("accepted", "candidates", "forced", "place", "row", "sampler", "token")

    def __init__(self, sampler: Sampler, row: Logits) -> None:
        self.sampler = sampler
        self.row = row
        self.token = -1
        self.accepted = False
        self.forced = False
        self.candidates: Candidates | None = None
        self.place = 0


def _batches(rows: list[int], logits: Logits) -> Iterable[list[int]]:
    count = max(1, _CACHE_BYTES // (logits.itemsize * logits.shape[1]))
    return (rows[start : start + count] for start in range(0, len(rows), count))


def _draw_natively(native: NativeDraw, row: int, turn: _Turn, wanted: LogprobParams | None) -> bool:
    """Not where the candidates are asked for, nor with NaN in the row: llama.cpp's sorts cannot place it."""
    if (wanted is not None and wanted.processed) or np.isnan(turn.row.max()):
        return False
    turn.token, turn.accepted = native(turn.sampler.chain.native, row), True
    return True


def _draw_from_shortlists(logits: Logits, rows: Items[int], turns: Items[_Turn]) -> None:
    best = [turn.sampler.best or 0 for turn in turns]
    listed = shortlist(logits, rows, best, [turn.sampler.touched for turn in turns])
    _apply(Candidates(listed.tokens, listed.logits, listed.sizes), turns)


def _draw_from_all(logits: Logits, rows: Items[int], turns: Items[_Turn]) -> None:
    n_vocab = logits.shape[1]
    tokens = np.tile(np.arange(n_vocab), len(rows))
    _apply(Candidates(tokens, logits[rows].ravel(), np.full(len(rows), n_vocab)), turns)


def _apply(candidates: Candidates, turns: Items[_Turn]) -> None:
    for place, turn in enumerate(turns):
        candidates.apply(place, turn.sampler.chain.native)
        turn.candidates, turn.place = candidates, place
    for turn, token in zip(turns, candidates.chosen(), strict=True):
        turn.token = token


def _first_maximum(row: Logits) -> int:
    """NaN counts as impossible."""
    token = int(row.argmax())
    return token if row[token] == row[token] else int(np.where(np.isnan(row), -np.inf, row).argmax())
