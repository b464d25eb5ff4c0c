"""How a rerank model reads a question and a document: as one sequence of tokens, cut where it would be too long.

What the two texts say is never taken for a special token: a document cannot end its own part of the sequence.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from appliance.types import Reading

_PLACEHOLDER: Final = re.compile(r"\{(query|document)\}")
# Each time a document is cut by text, some of what should go may stay.
_CUTS_MAX: Final = 16


class Tokenizer(Protocol):
    """What the model's vocabulary must offer here; safe to use while the engine thread computes.

    size: number of tokens. piece_bytes_max: most bytes of text that one token stands for. prefix, suffix: what stands
    around every text. separator: between the two texts of a pair. special: the texts of tokens that are no plain text.
    """

    @property
    def size(self) -> int: ...

    @property
    def piece_bytes_max(self) -> int: ...

    @property
    def prefix(self) -> list[int]: ...

    @property
    def suffix(self) -> list[int]: ...

    @property
    def separator(self) -> list[int]: ...

    @property
    def special(self) -> dict[str, int]: ...

    def whole(self, text: str) -> list[int]:
        """A text with what stands around it; special tokens in it are recognised."""
        ...

    def plain(self, text: str) -> list[int]:
        """A text alone, without any special token."""
        ...

    def read(self, text: str, reading: Reading) -> list[int]:
        """As it is to be looked at."""
        ...

    def written(self, token: int) -> bytes:
        """A token as it is written in a text, special ones too."""
        ...


class PairFormat(Protocol):
    """Makes one sequence of a question and a document."""

    def fit(self, query: str, document: str, room: int) -> tuple[list[int], bool]:
        """At most `room` tokens, and whether something was cut: of the document, then of the question."""
        ...


class SeparatedPair:
    """As BERT was trained: prefix, question, separator, document, suffix."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def fit(self, query: str, document: str, room: int) -> tuple[list[int], bool]:
        """See PairFormat. Of a question that leaves no room for a document half of the room is kept."""
        tokenizer = self._tokenizer
        prefix, separator, suffix = tokenizer.prefix, tokenizer.separator, tokenizer.suffix
        question, answer = tokenizer.plain(query), tokenizer.plain(document)
        left = max(0, room - len(prefix) - len(separator) - len(suffix))
        fits = len(question) < left or not answer
        kept = question[:left] if fits else question[: left // 2]
        tail = answer[: max(0, left - len(kept))]
        cut = len(kept) < len(question) or len(tail) < len(answer)
        return [*prefix, *kept, *separator, *tail, *suffix], cut


class TemplatePair:
    """The file's own text with `{query}` and `{document}` in it (`tokenizer.chat_template.rerank`)."""

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        self._tokenizer = tokenizer
        special = sorted((text for text in tokenizer.special if text in template), key=len, reverse=True)
        pattern = "|".join(map(re.escape, special))
        # Special tokens at odd places, plain text at even ones.
        self._parts = re.split(f"({pattern})", template) if special else [template]

    def fit(self, query: str, document: str, room: int) -> tuple[list[int], bool]:
        """See PairFormat."""
        texts = {"document": document, "query": query}
        tokens = self._tokens(texts)
        cut = len(tokens) > room
        for name in texts:
            for _ in range(_CUTS_MAX):
                if len(tokens) <= room or not texts[name]:
                    break
                own = max(1, len(self._tokenizer.plain(texts[name])))
                keep = max(0, own - (len(tokens) - room)) / own
                texts[name] = texts[name][: min(len(texts[name]) - 1, int(len(texts[name]) * keep))]
                tokens = self._tokens(texts)
        return tokens[:room], cut

    def _tokens(self, texts: dict[str, str]) -> list[int]:
        tokens: list[int] = []
        for place, part in enumerate(self._parts):
            if place % 2:
                tokens.append(self._tokenizer.special[part])
            elif part:
                tokens += self._tokenizer.plain(_PLACEHOLDER.sub(lambda found: texts[found[1]], part))
        return tokens
