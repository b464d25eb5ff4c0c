"""A model whose greedy answer is known in closed form: each token has one successor, whatever came before it.

    [000] → [001] → … → [255] → [000] → …     never ends; every word of a lap is different
    a → b → … → z → end                       with the end forbidden (ignore_eos): z → a
    A → B → … → Z → é → end                   é comes as two byte tokens

One-hot embeddings, attention and feed-forward zero, output matrix = the table of successors.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.models.llama_file import CHAT_TEMPLATE, write_llama
from tests.models.vocabulary import EOS, ID, LETTERS, N_VOCAB, WORDS, word


def build_recite(
    path: Path, *, architecture: str = "llama", chat_template: str | None = CHAT_TEMPLATE, context: int = 8192
) -> None:
    """Writes the recite model to `path`."""
    embedding = np.eye(N_VOCAB, dtype=np.float32)
    output = np.zeros((N_VOCAB, N_VOCAB), np.float32)
    for token, successor in _successors().items():
        output[successor, token] = 1.0
    output[ID["a"], ID["z"]] = 0.5

    def weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name == "token_embd.weight":
            return embedding
        if name == "output.weight":
            return output
        return np.ones(shape, np.float32) if name.endswith("norm.weight") else np.zeros(shape, np.float32)

    write_llama(
        path, weights, name="recite", layers=1, context=context, architecture=architecture, chat_template=chat_template
    )


def recited(start: int, count: int) -> str:
    """What follows the word `start`: the next `count` words."""
    return "".join(word(start + 1 + offset) for offset in range(count))


def _successors() -> dict[int, int]:
    successor = dict.fromkeys(range(N_VOCAB), ID["A"])
    for letter, following in itertools.pairwise(LETTERS):
        successor[ID[letter]] = ID[following]
    successor[ID["z"]] = EOS
    successor[ID["Z"]] = ID["<0xC3>"]
    successor[ID["<0xC3>"]] = ID["<0xA9>"]
    successor[ID["<0xA9>"]] = EOS
    for index in range(WORDS):
        successor[ID[word(index)]] = ID[word(index + 1)]
    return successor
