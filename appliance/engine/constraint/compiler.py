"""Makes matchers of constraints."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence as Items
from typing import Any, Final, Protocol

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from appliance.engine.constraint.bounds import place_of
from appliance.engine.constraint.grammar import grammar_of, schema_of
from appliance.engine.constraint.matcher import Matcher
from appliance.errors import RequestError
from appliance.types import Constraint

GRAMMARS_KEPT: Final = 64
# Processor time of `warm_up`, measured with 152k tokens; two thirds of it hold the GIL.
_SECONDS_PER_TOKEN: Final = 6e-6
_SPECIAL: Final = b"\xff"
_UNKNOWN_KEYS: Final = re.compile(r'Unimplemented keys: \["([^"]+)"')


class TokenBytes(Protocol):
    """What llguidance must know of a vocabulary.

    size: how many tokens. ends: those that end an answer. tokenizer: addresses of llama.cpp's vocabulary and of its
    tokenising function.
    """

    @property
    def size(self) -> int: ...

    @property
    def ends(self) -> frozenset[int]: ...

    @property
    def tokenizer(self) -> tuple[Any, int]: ...

    def token_bytes(self) -> list[bytes]:
        """What every token stands for in a text; a control token its own text after a byte 0xFF, which no text has."""
        ...


class Compiler:
    """Belongs to one thread at a time. The last GRAMMARS_KEPT grammars are kept compiled.

    The first call makes llguidance's view of the vocabulary: 0.9 s at 152k tokens, of which 0.3 s and then 0.4 s hold
    the GIL.
    """

    def __init__(self, vocabulary: TokenBytes) -> None:
        self._vocabulary = vocabulary
        self._tokenizer: LLTokenizer | None = None
        self._special: dict[str, int] = {}
        self._kept: OrderedDict[tuple[Constraint, bool], LLMatcher] = OrderedDict()

    @property
    def warm(self) -> bool:
        """Whether `warm_up` has nothing left to do."""
        return self._tokenizer is not None

    @property
    def warm_up_seconds(self) -> float:
        """How long `warm_up` will take, about."""
        return 0.0 if self.warm else self._vocabulary.size * _SECONDS_PER_TOKEN

    def warm_up(self) -> None:
        """Makes what every grammar needs."""
        if self._tokenizer is None:
            tokens = self._vocabulary.token_bytes()
            self._special = {
                text[1:].decode(errors="replace"): token for token, text in enumerate(tokens) if text[:1] == _SPECIAL
            }
            self._tokenizer = _tokenizer(self._vocabulary, tokens)

    def compile(self, constraint: Constraint, prompt: Items[int]) -> Matcher:
        """A matcher for an answer to `prompt`. Raises RequestError where the constraint cannot be kept."""
        thinking = constraint.thinks is not None and self._ends_with(prompt, constraint.thinks[0])
        key = constraint, thinking
        if (compiled := self._kept.get(key)) is None:
            compiled = self._kept[key] = self._compiled(constraint, thinking)
            if len(self._kept) > GRAMMARS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        thoughts: tuple[bytes, bytes] | None = None
        if constraint.thinks is not None:
            opening, closing = (marker.encode() for marker in constraint.thinks)
            thoughts = b"" if thinking else opening, closing
        reads_json = constraint.kind == "json_schema"
        return Matcher(compiled.deep_copy(), constraint.param, reads_json=reads_json, thoughts=thoughts)

    def _compiled(self, constraint: Constraint, thinking: bool) -> LLMatcher:
        self.warm_up()
        grammar = grammar_of(constraint, thinking=thinking, special=self._special)
        assert self._tokenizer is not None
        compiled = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_limits())
        if not compiled.is_error():
            # The first step shows most of what a grammar costs, here where no stream waits for it.
            words = np.empty((self._tokenizer.vocab_size + 31) // 32, np.uint32)
            compiled.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
            if not compiled.is_error() and words.any():
                return compiled
        raise _refusal(constraint, compiled.get_error())

    def _ends_with(self, prompt: Items[int], opening: str) -> bool:
        """Whether the prompt's last text, white space aside, is `opening`."""
        self.warm_up()
        assert self._tokenizer is not None
        return self._tokenizer.decode_bytes(list(prompt[-16:])).rstrip().endswith(opening.encode())


def _tokenizer(vocabulary: TokenBytes, tokens: list[bytes]) -> LLTokenizer:
    """In two calls, both of which hold the GIL: between them the engine thread has its turn."""
    native, tokenize = vocabulary.tokenizer
    whole: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=tokens,
        vocab_ptr=native,
        tokenize_fptr=tokenize,
        eos_token=sorted(vocabulary.ends),
        slices=[],
    )
    return whole.with_slices(LLTokenizer.general_slices())


def _limits() -> LLParserLimits:
    """llguidance's counters of work and memory, most of them below its defaults."""
    return LLParserLimits(
        max_items_in_row=2000,
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=100_000,
        step_max_items=20_000,
        max_lexer_states=20_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def _refusal(constraint: Constraint, error: str) -> RequestError:
    """llguidance's reason in one line, and the place where that is known."""
    place = constraint.param
    if constraint.kind == "json_schema" and (unknown := _UNKNOWN_KEYS.search(error)) is not None:
        place = place_of(schema_of(constraint), unknown[1], constraint.param)
    reason = error.partition("\n")[0][:300] or "no text can satisfy it"
    return RequestError("invalid_request", f"{place}: not supported or not satisfiable: {reason}", param=place)
