"""Draws the next tokens of all sequences of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.engine.advance import Sampled
from appliance.engine.runner import logprobs
from appliance.engine.runner.allowed import WORD_BITS, Allowed, Tokens, words_of
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
# Of a constraint that allows so few tokens all are looked at.
_FEW_TOKENS: Final = 4096

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
        self._ahead: dict[int, Allowed] = {}

    def __len__(self) -> int:
        return len(self._live)

    def look_ahead(self, sequences: Items[Sequence]) -> None:
        """Finds out what may be drawn for those with a constraint, before there are logits."""
        self._ahead = {
            sequence.number: self._allowed(sequence) for sequence in sequences if sequence.matcher is not None
        }

    def draw(self, logits: Logits, sequences: Items[Sequence], native: NativeDraw | None = None) -> tuple[Sampled, ...]:
        """A token for each sequence; row i of `logits`, which is only read, belongs to sequence i."""
        turns = [_Turn(self._of(sequence), logits[row]) for row, sequence in enumerate(sequences)]
        for turn, sequence in zip(turns, sequences, strict=True):
            if sequence.matcher is not None:
                turn.allowed = self._ahead.pop(sequence.number, None) or self._allowed(sequence)
        listed, whole, constrained = [], [], []
        for row, turn in enumerate(turns):
            if (forced := sequences[row].forced) is not None:
                turn.token, turn.forced = forced, True
            elif turn.allowed is not None and not turn.allowed.count:
                pass  # its matcher says why
            elif turn.sampler.plain:
                turn.token = _likeliest(turn)
            elif turn.allowed is not None:
                constrained.append(row)
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
        for rows in _batches(constrained, logits):
            _draw_from_allowed(logits, rows, [turns[row] for row in rows])
        return tuple(self._sampled(turn, sequence) for turn, sequence in zip(turns, sequences, strict=True))

    def close(self, number: int) -> None:
        """The request has ended; unknown numbers are ignored."""
        self._ahead.pop(number, None)
        if (sampler := self._live.pop(number, None)) is not None:
            sampler.close()

    def _of(self, sequence: Sequence) -> Sampler:
        sampler = self._live.get(sequence.number)
        if sampler is None:
            sampler = self._live[sequence.number] = Sampler(sequence, self._vocabulary)
        return sampler

    def _allowed(self, sequence: Sequence) -> Allowed:
        """What may come next. Where it is nothing, the matcher has its reason."""
        assert sequence.matcher is not None
        words = np.zeros(words_of(self._vocabulary.size), np.uint32)
        if sequence.matcher.failure is None:
            sequence.matcher.fill(words)
        if sequence.matcher.failure is None and not words.any():
            sequence.matcher.refuse("it allows no further token")
        if sequence.matcher.failure is not None:
            words[:] = 0
        allowed, forbidden = Allowed(words), self._of(sequence).forbidden
        if not len(forbidden):
            return allowed
        left = allowed.without(forbidden)
        if allowed.count and not left.count:
            if sequence.sampling.ignore_eos and (ends := self._only_ends(allowed)) is not None:
                return ends
            sequence.matcher.refuse("logit_bias or the model forbids every token it allows")
        return left

    def _only_ends(self, allowed: Allowed) -> Allowed | None:
        """Where nothing can follow but the end, it is not ignored."""
        return allowed if all(token in self._vocabulary.ends for token in allowed.tokens().tolist()) else None

    def _sampled(self, turn: _Turn, sequence: Sequence) -> Sampled:
        token, matcher = turn.token, sequence.matcher
        if token < 0:
            assert matcher is not None and matcher.failure is not None, "a draw came to nothing"
            return Sampled(0, b"", False, failure=matcher.failure)
        turn.sampler.accept(token, by_chain=not turn.accepted)
        logprob = None if sequence.logprobs is None else self._logprob(turn, sequence.logprobs)
        piece = self._vocabulary.pieces[token] or sequence.spoken.get(token, b"")
        is_end = token in self._vocabulary.ends
        if sequence.thought is not None:
            sequence.thought.drew(piece)
        if matcher is None:
            return Sampled(token, piece, is_end, logprob)
        matcher.accept(token, piece, is_end=is_end)
        return Sampled(token, piece, is_end, logprob, matcher.complete, matcher.failure)

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

    forced: nothing was drawn. allowed: what it may draw, where there is a constraint. token: -1 until it is drawn.
    """

    __slots__ = ("accepted", "allowed", "candidates", "forced", "place", "row", "sampler", "token")

    def __init__(self, sampler: Sampler, row: Logits) -> None:
        self.sampler = sampler
        self.row = row
        self.token = -1
        self.accepted = False
        self.forced = False
        self.candidates: Candidates | None = None
        self.place = 0
        self.allowed: Allowed | None = None


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


def _draw_from_allowed(logits: Logits, rows: Items[int], turns: Items[_Turn]) -> None:
    """From the allowed tokens alone: the others are not there for any sampler of the chain."""
    lists = {place: _allowed_of(turn).tokens() for place, turn in enumerate(turns) if not _wants_shortlist(turn)}
    if long := [place for place in range(len(turns)) if place not in lists]:
        lists |= _best_allowed(logits, {place: rows[place] for place in long}, turns)
    sizes = np.array([len(lists[place]) for place in range(len(turns))])
    tokens = np.concatenate([lists[place] for place in range(len(turns))])
    _apply(Candidates(tokens, logits[np.repeat(rows, sizes), tokens], sizes), turns)


def _best_allowed(logits: Logits, row_of: Mapping[int, int], turns: Items[_Turn]) -> dict[int, Tokens]:
    """For each of these places enough of its allowed tokens for an exact draw.

    Those of the row's shortlist, which a model that knows the form makes enough; else of one made without the rest.
    """
    lists: dict[int, Tokens] = {}
    listed = _shortlists(logits, list(row_of.values()), [turns[place] for place in row_of])
    for place, (tokens, values) in zip(row_of, listed, strict=True):
        kept = _allowed_of(turns[place]).among(tokens)
        if _are_enough(turns[place].sampler, tokens[kept], values[kept]):
            lists[place] = tokens[kept]
    if missed := [place for place in row_of if place not in lists]:
        n_vocab = logits.shape[1]
        left = np.empty((len(missed), words_of(n_vocab) * WORD_BITS), np.float32)
        for line, place in enumerate(missed):
            _allowed_of(turns[place]).applied(turns[place].row, left[line])
        listed = _shortlists(left[:, :n_vocab], range(len(missed)), [turns[place] for place in missed])
        for place, (tokens, _) in zip(missed, listed, strict=True):
            lists[place] = tokens[_allowed_of(turns[place]).among(tokens)]
    return lists


def _shortlists(logits: Logits, rows: Items[int], turns: Items[_Turn]) -> Iterator[tuple[Tokens, Logits]]:
    """Of each row the tokens on its shortlist and their logits."""
    best = [turn.sampler.best or 0 for turn in turns]
    listed = shortlist(logits, rows, best, [turn.sampler.touched for turn in turns])
    ends = np.cumsum(listed.sizes).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield listed.tokens[start:end], listed.logits[start:end]


def _are_enough(sampler: Sampler, tokens: Tokens, values: Logits) -> bool:
    """Whether so many are certain to stay among the best as the sampler wants: neither NaN nor about to change."""
    assert sampler.best is not None
    sure = ~np.isnan(values)
    if len(sampler.touched):
        sure &= ~np.isin(tokens, sampler.touched)
    return int(np.count_nonzero(sure)) >= sampler.best


def _wants_shortlist(turn: _Turn) -> bool:
    return turn.sampler.best is not None and _allowed_of(turn).count > _FEW_TOKENS


def _allowed_of(turn: _Turn) -> Allowed:
    assert turn.allowed is not None, "it has a constraint"
    return turn.allowed


def _apply(candidates: Candidates, turns: Items[_Turn]) -> None:
    for place, turn in enumerate(turns):
        candidates.apply(place, turn.sampler.chain.native)
        turn.candidates, turn.place = candidates, place
    for turn, token in zip(turns, candidates.chosen(), strict=True):
        turn.token = token


def _likeliest(turn: _Turn) -> int:
    token = _first_maximum(turn.row)
    if turn.allowed is None or token in turn.allowed:
        return token
    tokens = turn.allowed.tokens()
    return int(tokens[_first_maximum(turn.row[tokens])])


def _first_maximum(row: Logits) -> int:
    """NaN counts as impossible."""
    token = int(row.argmax())
    return token if row[token] == row[token] else int(np.where(np.isnan(row), -np.inf, row).argmax())
