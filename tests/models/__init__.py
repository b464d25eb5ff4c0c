"""Tiny GGUF files for tests, built in a fraction of a second."""

from tests.models.random_weights import build_random
from tests.models.recite import build_recite

__all__ = ["build_random", "build_recite"]
