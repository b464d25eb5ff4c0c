"""A model that plays a part: the last letter of the prompt decides which text it answers with, word for word.

Each text is cut into pieces that occur once in all of them, one token each, so that a token's successor is the next
piece whatever came before. Markers are cut through.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.models.llama_file import write_llama
from tests.models.vocabulary import EOS, ID, LETTERS, N_VOCAB, WORDS, word

_PIECE: Final = 5
# It never comes to what stands behind `if`: only its words count.
TEMPLATE: Final = (
    "{% if false %}<tool_call></tool_call><think></think>{% endif %}"
    "{% for t in tools or [] %}{{ t.function.description }}{% endfor %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)


def build_actor(path: Path, parts: Mapping[str, str]) -> None:
    """Writes the model to `path`. parts: a letter that is in none of the texts → the text; pure in both."""
    assert all(cue in LETTERS and not any(cue in text for text in parts.values()) for cue in parts)
    cut = _cut(parts)
    pieces = [piece for part in cut.values() for piece in part]
    assert len(pieces) == len(set(pieces)) <= WORDS
    first = ID[word(0)]
    ids = {piece: first + index for index, piece in enumerate(pieces)}
    successors: dict[int, int] = {}
    for cue, part in cut.items():
        chain = [ID[cue], *(ids[piece] for piece in part), EOS]
        successors |= dict(itertools.pairwise(chain))
    output = np.zeros((N_VOCAB, N_VOCAB), np.float32)
    for token in range(N_VOCAB):
        output[successors.get(token, EOS), token] = 1.0

    def weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name == "token_embd.weight":
            return np.eye(N_VOCAB, dtype=np.float32)
        if name == "output.weight":
            return output
        return np.ones(shape, np.float32) if name.endswith("norm.weight") else np.zeros(shape, np.float32)

    write_llama(path, weights, name="actor", layers=1, chat_template=TEMPLATE, pieces=pieces)


def _cut(parts: Mapping[str, str]) -> dict[str, list[str]]:
    """Pieces of five characters and more: as many as it takes to be unlike all before."""
    known: set[str] = set()
    cut: dict[str, list[str]] = {}
    for cue, text in parts.items():
        part: list[str] = []
        while text:
            size = next(
                (size for size in range(_PIECE, len(text) + 1) if text[:size] not in known and len(text) - size != 1),
                len(text),
            )
            part.append(text[:size])
            known.add(text[:size])
            text = text[size:]
        cut[cue] = part
    return cut
