"""The tokens of a model that reads whole texts: what stands around them, and between two of them."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import llama_cpp

from appliance.errors import LoadError
from appliance.types import AS_PROMPT, Reading

# Room for what stands around a text beside the one token per byte that it can become at most.
_EXTRA_TOKENS: Final = 16
# enum llama_vocab_type and llama_token_attr of include/llama.h.
_WORD_PIECE: Final = 3
_PLAIN: Final = Reading(add_special=False, parse_special=False)
_CONTROL: Final = 1 << 3
_USER_DEFINED: Final = 1 << 4


class TextTokenizer:
    """Immutable once made, so that the io thread may tokenise while the engine thread computes.

    See `engine.pooling.pairs.Tokenizer`.
    """

    def __init__(self, model: Any) -> None:
        self._native = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self._native)
        if self.size <= 0:
            raise LoadError("it has no vocabulary")
        texts = [self._text(token) for token in range(self.size)]
        self.piece_bytes_max = max(1, *map(len, texts))
        self.special = {
            text.decode(errors="replace"): token
            for token, text in enumerate(texts)
            if text and llama_cpp.llama_vocab_get_attr(self._native, token) & (_CONTROL | _USER_DEFINED)
        }
        around = self._tokenize("")
        begins = bool(around) and around[0] == llama_cpp.llama_vocab_bos(self._native)
        self.prefix, self.suffix = around[:begins], around[begins:]
        self.separator = [*self.suffix, *self._second_separator()]

    def whole(self, text: str) -> list[int]:
        """See Tokenizer."""
        return self._tokenize(text)

    def plain(self, text: str) -> list[int]:
        """See Tokenizer."""
        return self._tokenize(text, _PLAIN)

    def read(self, text: str, reading: Reading) -> list[int]:
        """See Tokenizer."""
        return self._tokenize(text, reading)

    def written(self, token: int) -> bytes:
        """See Tokenizer."""
        size = self.piece_bytes_max + _EXTRA_TOKENS
        buffer = ctypes.create_string_buffer(size)
        count = llama_cpp.llama_token_to_piece(self._native, token, buffer, size, 0, True)
        return bytes(buffer.raw[: max(0, count)])

    def _second_separator(self) -> list[int]:
        """RoBERTa ends the first text and then separates; BERT does both with one token, which ends every text."""
        separates = bool(llama_cpp.llama_vocab_get_add_sep(self._native))
        if not separates or llama_cpp.llama_vocab_type(self._native) == _WORD_PIECE:
            return []
        token: int = llama_cpp.llama_vocab_sep(self._native)
        return [token] if token >= 0 else []

    def _tokenize(self, text: str, reading: Reading = AS_PROMPT) -> list[int]:
        around, special = reading.add_special, reading.parse_special
        data = text.encode(errors="replace")
        room = len(data) + _EXTRA_TOKENS
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._native, data, len(data), buffer, room, around, special)
        if count < 0:
            # Normalisation may write a character with more pieces than it had bytes.
            room = -count
            buffer = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._native, data, len(data), buffer, room, around, special)
        assert count >= 0, "a text has more tokens than llama.cpp said"
        tokens: list[int] = buffer[:count]
        return tokens

    def _text(self, token: int) -> bytes:
        return llama_cpp.llama_vocab_get_text(self._native, token) or b""
