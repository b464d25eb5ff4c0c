"""Log probabilities in OpenAI's two shapes. Pure.

A token is bytes and may be part of a character: its text then has U+FFFD in place of what is incomplete.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Final

from appliance.api.openai_schema import ChatLogprob, ChatLogprobs, TextLogprobs, TopLogprob
from appliance.types import TokenLogprob

# JSON has no infinity; OpenAI writes this for what is impossible.
LOGPROB_MIN: Final = -9999.0
_Utf8: Final = codecs.getincrementaldecoder("utf-8")


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> ChatLogprobs:
    """The shape of `/v1/chat/completions`."""
    return ChatLogprobs([_chat_logprob(token) for token in tokens])


def _chat_logprob(token: TokenLogprob) -> ChatLogprob:
    top = [TopLogprob(_text(piece), _finite(logprob), tuple(piece)) for _, piece, logprob in token.top]
    return ChatLogprob(_text(token.piece), _finite(token.logprob), tuple(token.piece), top)


class TextLogprobWriter:
    """The shape of `/v1/completions`; counts the characters of one choice from its first token to its last."""

    def __init__(self) -> None:
        self._decoder = _Utf8("replace")
        self._chars = 0

    def write(self, tokens: Sequence[TokenLogprob]) -> TextLogprobs:
        """The next tokens. A character in several tokens counts with the last of them."""
        offsets = []
        for token in tokens:
            offsets.append(self._chars)
            self._chars += len(self._decoder.decode(token.piece))
        return TextLogprobs(
            tokens=[_text(token.piece) for token in tokens],
            token_logprobs=[_finite(token.logprob) for token in tokens],
            top_logprobs=[_by_text(token) for token in tokens],
            text_offset=offsets,
        )


def _by_text(token: TokenLogprob) -> dict[str, float]:
    """The drawn token and the likeliest; of several with the same text the likeliest counts."""
    likeliest: dict[str, float] = {}
    for _, piece, logprob in token.top:
        likeliest.setdefault(_text(piece), _finite(logprob))
    likeliest.setdefault(_text(token.piece), _finite(token.logprob))
    return likeliest


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return max(logprob, LOGPROB_MIN)
