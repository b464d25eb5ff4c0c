"""The tokens of a model."""

from __future__ import annotations

import ctypes
from typing import Any, Final, Protocol

import llama_cpp

from appliance.errors import LoadError

_PIECE_BYTES: Final = 256
# Room for special tokens beside the one token per byte that a text can become at most.
_EXTRA_TOKENS: Final = 16


class TokenTable(Protocol):
    """What drawing needs to know of a vocabulary.

    pieces: the bytes each token stands for in an answer; empty for control tokens. ends: tokens that end an answer.
    suppressed: tokens that the model's maker wants never drawn.
    """

    @property
    def size(self) -> int: ...

    @property
    def pieces(self) -> tuple[bytes, ...]: ...

    @property
    def ends(self) -> frozenset[int]: ...

    @property
    def suppressed(self) -> frozenset[int]: ...


class Vocabulary:
    """Immutable once made, so that the io thread may tokenise while the engine thread computes.

    native: the llama_vocab. The rest is that of TokenTable.
    """

    def __init__(self, model: Any) -> None:
        self.native = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self.native)
        if self.size <= 0:
            raise LoadError("it has no vocabulary")
        self.pieces = tuple(self._pieces())
        self.piece_bytes_max = max(1, *map(len, self.pieces), max(len(self._text(token)) for token in range(self.size)))
        self.ends = frozenset(token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(self.native, token))
        self.suppressed = self._suppressed()
        self._bos: int = llama_cpp.llama_vocab_bos(self.native)
        self._begins_with_bos = bool(llama_cpp.llama_vocab_get_add_bos(self.native)) and self._bos >= 0

    @property
    def bos_text(self) -> str:
        """How the first token of a text is written; empty where the model has none."""
        return self._text(self._bos).decode(errors="replace")

    @property
    def eos_text(self) -> str:
        """How the last token of a text is written; empty where the model has none."""
        return self._text(llama_cpp.llama_vocab_eos(self.native)).decode(errors="replace")

    @property
    def warm_up_token(self) -> int:
        """A token that is valid everywhere."""
        return max(self._bos, 0)

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a text, special tokens recognised, begun by exactly one BOS where the model wants it.

        A chat template may have written the BOS already.
        """
        data = text.encode(errors="replace")
        room = len(data) + _EXTRA_TOKENS
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.native, data, len(data), buffer, room, False, True)
        assert count >= 0, "a text has more tokens than bytes"
        tokens: list[int] = buffer[:count]
        if self._begins_with_bos and tokens[:1] != [self._bos]:
            tokens.insert(0, self._bos)
        return tokens

    def _pieces(self) -> list[bytes]:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        return [self._piece(token, buffer) for token in range(self.size)]

    def _suppressed(self) -> frozenset[int]:
        count = ctypes.c_int32(0)
        tokens = llama_cpp.llama_vocab_get_suppress_tokens(self.native, ctypes.byref(count))
        return frozenset(tokens[: count.value] if count.value > 0 else ())

    def _piece(self, token: int, buffer: Any) -> bytes:
        count = llama_cpp.llama_token_to_piece(self.native, token, buffer, len(buffer), 0, False)
        if count < 0:
            return self._piece(token, ctypes.create_string_buffer(-count))
        return bytes(buffer.raw[:count])

    def _text(self, token: int) -> bytes:
        return b"" if token < 0 else llama_cpp.llama_vocab_get_text(self.native, token) or b""
