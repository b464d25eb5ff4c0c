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

    def write_prompt(self, tokens: Sequence[TokenLogprob], text: str | None) -> tuple[str, TextLogprobs]:
        """The prompt as it is echoed, and its tokens; before anything else. text: as the client wrote it, if it did."""
        pieces = [token.piece for token in tokens]
        text = b"".join(pieces).decode("utf-8", "replace") if text is None else text
        self._chars = len(text)
        return text, TextLogprobs(
            tokens=[_text(piece) for piece in pieces],
            token_logprobs=[None, *(_finite(token.logprob) for token in tokens[1:])],
            top_logprobs=[None, *(_by_text(token) for token in tokens[1:])],
            text_offset=_offsets(pieces, text),
        )

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


def joined_logprobs(first: TextLogprobs, then: TextLogprobs) -> TextLogprobs:
    """One after the other."""
    return TextLogprobs(
        tokens=first.tokens + then.tokens,
        token_logprobs=first.token_logprobs + then.token_logprobs,
        top_logprobs=first.top_logprobs + then.top_logprobs,
        text_offset=first.text_offset + then.text_offset,
    )


def _offsets(pieces: Sequence[bytes], text: str) -> list[int]:
    """Where in `text` each of its tokens begins. It may lack the token that begins every text, and the space before the
    first word that some vocabularies write; a vocabulary that changes characters is followed by their number."""
    decoder, position, offsets = _Utf8("replace"), 0, []
    for index, piece in enumerate(pieces):
        offsets.append(position)
        said = decoder.decode(piece)
        if text.startswith(said, position):
            position += len(said)
        elif said.startswith(" ") and text.startswith(said[1:], position):
            position += len(said) - 1
        elif index > 0:
            position = min(len(text), position + len(said))
    return offsets


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
