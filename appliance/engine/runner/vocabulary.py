"""The tokens of a model."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from functools import cached_property
from itertools import compress, repeat
from typing import Any, Final, Protocol

import llama_cpp

from appliance.errors import LoadError
from appliance.types import AS_PROMPT, CONTINUED, Reading

_PIECE_BYTES: Final = 256
# Room for special tokens beside the one token per byte that a text can become at most.
_EXTRA_TOKENS: Final = 16


class TokenTable(Protocol):
    """What drawing needs to know of a vocabulary.

    pieces: the bytes each token stands for in an answer; empty for control tokens. To be asked for, not gone through.
    ends: tokens that end an answer. suppressed: tokens that the model's maker wants never drawn.
    """

    @property
    def size(self) -> int: ...

    @property
    def pieces(self) -> Mapping[int, bytes]: ...

    @property
    def ends(self) -> frozenset[int]: ...

    @property
    def suppressed(self) -> frozenset[int]: ...


class Vocabulary:
    """The io thread may tokenise while the engine thread computes.

    native: the llama_vocab. tokenizer: addresses of it and of llama_tokenize. The rest is that of TokenTable. To call
    llama.cpp once for each of 150,000 tokens takes 0.1 s, so that nothing of the sort is done ahead that can wait:
    `pieces` and `spelt` (with control tokens as they are written), of the engine thread alone, come as they are asked
    for.
    """

    def __init__(self, model: Any) -> None:
        self.native = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self.native)
        self.tokenizer: tuple[int, int] = (self.native, _address(llama_cpp.llama_cpp._lib.llama_tokenize))
        if self.size <= 0:
            raise LoadError("it has no vocabulary")
        self.pieces: Mapping[int, bytes] = _Pieces(self.native)
        self.spelt: Mapping[int, bytes] = _Pieces(self.native, special=True)
        self._written: Mapping[int, bytes] = _Pieces(self.native, special=True)
        self.suppressed = self._suppressed()
        self._bos: int = llama_cpp.llama_vocab_bos(self.native)
        self._begins_with_bos = bool(llama_cpp.llama_vocab_get_add_bos(self.native)) and self._bos >= 0

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer. Any thread may be the first to ask: all tokens are looked at then."""
        ends = map(llama_cpp.llama_vocab_is_eog, repeat(self.native), range(self.size))
        return frozenset(compress(range(self.size), ends))

    @cached_property
    def piece_bytes_max(self) -> int:
        """No token stands for more bytes of a text. The first to ask waits for a look at all tokens."""
        # The text of a token is its piece, or a longer spelling of it: with escapes, or other signs for spaces.
        texts = map(llama_cpp.llama_vocab_get_text, repeat(self.native), range(self.size))
        return max(1, max(map(len, filter(None, texts)), default=1))

    @property
    def bos_text(self) -> str:
        """How the first token of a text is written; empty where the model has none."""
        return self._text(self._bos).decode(errors="replace")

    @property
    def eos_text(self) -> str:
        """How the last token of a text is written; empty where the model has none."""
        return self._text(llama_cpp.llama_vocab_eos(self.native)).decode(errors="replace")

    def control_tokens(self, texts: Collection[str]) -> dict[int, bytes]:
        """Of these texts those that are one control token each, which an answer does not show."""
        tokens = ((self._token(text), text.encode()) for text in texts)
        return {token: text for token, text in tokens if token is not None and not self.pieces[token]}

    @property
    def warm_up_token(self) -> int:
        """A token that is valid everywhere."""
        return max(self._bos, 0)

    def token_bytes(self) -> list[bytes]:
        """What every token stands for; a control token its text after a byte that no text has. For any thread."""
        pieces = _Pieces(self.native)
        return [pieces[token] or b"\xff" + self._text(token) for token in range(self.size)]

    def tokenize(self, text: str, reading: Reading = AS_PROMPT) -> list[int]:
        """Tokens of a text, special tokens recognised, begun by exactly one BOS where the model wants it.

        A chat template may have written the BOS already. reading: without one or the other of these.
        """
        data = text.encode(errors="replace")
        room = len(data) + _EXTRA_TOKENS
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.native, data, len(data), buffer, room, False, reading.parse_special)
        assert count >= 0, "a text has more tokens than bytes"
        tokens: list[int] = buffer[:count]
        if reading.add_special and self._begins_with_bos and tokens[:1] != [self._bos]:
            tokens.insert(0, self._bos)
        return tokens

    @property
    def infill(self) -> tuple[int, int, int]:
        """The tokens before a prefix, before what is between, and before a suffix; -1 where the model has none."""
        tokens = (llama_cpp.llama_vocab_fim_pre, llama_cpp.llama_vocab_fim_mid, llama_cpp.llama_vocab_fim_suf)
        before, between, after = (token(self.native) for token in tokens)
        return before, between, after

    def written(self, token: int) -> bytes:
        """A token as it is written in a text, control tokens too. The io thread's alone."""
        return self._written[token]

    def _token(self, text: str) -> int | None:
        """The token that is written as `text`."""
        tokens = self.tokenize(text, CONTINUED)
        return tokens[0] if len(tokens) == 1 and self._text(tokens[0]) == text.encode() else None

    def _suppressed(self) -> frozenset[int]:
        count = ctypes.c_int32(0)
        tokens = llama_cpp.llama_vocab_get_suppress_tokens(self.native, ctypes.byref(count))
        return frozenset(tokens[: count.value] if count.value > 0 else ())

    def _text(self, token: int) -> bytes:
        return b"" if token < 0 else llama_cpp.llama_vocab_get_text(self.native, token) or b""


class _Pieces(dict[int, bytes]):
    """Filled as tokens are asked for."""

    def __init__(self, native: Any, *, special: bool = False) -> None:
        super().__init__()
        self._native = native
        self._special = special
        self._buffer = ctypes.create_string_buffer(_PIECE_BYTES)

    def __missing__(self, token: int) -> bytes:
        piece = self[token] = self._read(token, self._buffer)
        return piece

    def _read(self, token: int, buffer: Any) -> bytes:
        count = llama_cpp.llama_token_to_piece(self._native, token, buffer, len(buffer), 0, self._special)
        if count < 0:
            return self._read(token, ctypes.create_string_buffer(-count))
        return bytes(buffer[:count])


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
