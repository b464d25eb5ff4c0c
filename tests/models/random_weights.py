"""A model with random weights: its answer depends on every token before it, so that a KV cache mistake shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.models.llama_file import CHAT_TEMPLATE, write_llama
from tests.models.vocabulary import BOS, EOS, ID, N_VOCAB


def build_random(
    path: Path,
    *,
    seed: int = 7,
    context: int = 8192,
    tensors_per_file: int = 0,
    chat_template: str = CHAT_TEMPLATE,
    controls: Sequence[str] = (),
    size: int = N_VOCAB,
) -> None:
    """Writes the random-weight model to `path`; the same seed writes the same model. It never ends by itself.

    tensors_per_file, chat_template, controls, size: as in `write_llama`.
    """
    generator = np.random.default_rng(seed)

    def weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name.endswith("norm.weight"):
            return np.ones(shape, np.float32)
        values = generator.standard_normal(shape, dtype=np.float32)
        if name == "token_embd.weight":
            return values
        if name == "output.weight":
            values[[ID["<unk>"], BOS, EOS]] = 0
        return values * np.float32(0.3 if name == "output.weight" else 0.15)

    write_llama(
        path,
        weights,
        name="random weights",
        layers=2,
        context=context,
        tensors_per_file=tensors_per_file,
        chat_template=chat_template,
        controls=controls,
        size=size,
    )
