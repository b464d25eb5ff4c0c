"""A model that calls a tool and thinks for ever, with control tokens for its markers as Mistral's models have them.

C → [TOOL_CALLS] → f → [ARGS] → { → } → end
T → [THINK] → [000] → [001] → …             never ends
[/THINK] → line end → A → end
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.models.llama_file import write_llama
from tests.models.vocabulary import EOS, ID, N_VOCAB, TOKENS, WORDS, word

CONTROLS: Final = ("[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]")
_ID: Final = {**ID, **{text: len(TOKENS) + index for index, text in enumerate(CONTROLS)}}
_CHAINS: Final = (
    ("C", "[TOOL_CALLS]", "f", "[ARGS]", "<0x7B>", "<0x7D>", "</s>"),
    ("T", "[THINK]", *(word(index) for index in range(WORDS)), word(0)),
    ("[/THINK]", "<0x0A>", "A", "</s>"),
)
# It never comes to what stands behind `if`: only its words count.
TEMPLATE: Final = (
    "{% if false %}[TOOL_CALLS][ARGS][THINK]{% endif %}"
    "{% for t in tools or [] %}{{ t.function.description }}{% endfor %}"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)


def build_caller(path: Path) -> None:
    """Writes the model to `path`."""
    embedding = np.eye(N_VOCAB, dtype=np.float32)
    output = np.zeros((N_VOCAB, N_VOCAB), np.float32)
    successors = {_ID[token]: _ID[after] for chain in _CHAINS for token, after in itertools.pairwise(chain)}
    for token in range(N_VOCAB):
        output[successors.get(token, EOS), token] = 1.0

    def weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name == "token_embd.weight":
            return embedding
        if name == "output.weight":
            return output
        return np.ones(shape, np.float32) if name.endswith("norm.weight") else np.zeros(shape, np.float32)

    write_llama(path, weights, name="caller", layers=1, chat_template=TEMPLATE, controls=CONTROLS)
