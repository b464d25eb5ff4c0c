"""From what a model computes of a text to what a client gets. Pure."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

# A label of a classifier with several that says: relevant.
_POSITIVE: Final = frozenset({"yes", "true", "relevant", "positive", "entailment", "label_1", "1"})


def unit(vector: Vector) -> Vector | None:
    """The same direction with length one; None for what has none: zeros, or no numbers."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not math.isfinite(length) or length == 0:
        return None
    return (vector / np.float64(length)).astype(np.float32)


def shortened(vector: Vector, dimensions: int | None) -> Vector | None:
    """The first numbers of a vector of length one, with length one again; see `unit`."""
    return vector if dimensions is None or dimensions == len(vector) else unit(vector[:dimensions])


def relevance(outputs: Vector, label: int, *, probabilities: bool) -> Vector | None:
    """How relevant a document is, 0 to 1, from the outputs of a rank head; None where they are no numbers.

    One output is a logit, of which the logistic function makes a probability; of several the one of `label` counts,
    after a softmax unless they are `probabilities` already.
    """
    values = outputs.astype(np.float64)
    if not np.isfinite(values).all():
        return None
    if probabilities:
        score = float(values[label])
    elif len(values) == 1:
        # Without overflow on either side.
        score = 0.5 * (1 + math.tanh(float(values[0]) / 2))
    else:
        powers = np.exp(values - values.max())
        score = float(powers[label] / powers.sum())
    return np.array([min(1.0, max(0.0, score))], np.float32)


def relevant_label(labels: list[str]) -> int | None:
    """Which output of a rank head says how relevant a document is; None where its labels do not tell."""
    if len(labels) <= 1:
        return 0
    return next((index for index, label in enumerate(labels) if label.lower() in _POSITIVE), None)


def to_bytes(vector: Vector) -> bytes:
    """As it travels: little-endian 32-bit floats."""
    return vector.astype("<f4", copy=False).tobytes()
