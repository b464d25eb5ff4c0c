"""Which models make vectors or scores of whole texts in the place of new text, by what their files say."""

from __future__ import annotations

from typing import Final

from appliance.types import ModelKind, Pooling

# enum llama_pooling_type of include/llama.h.
POOLING_NAMES: Final[dict[int, Pooling]] = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}

# They keep no KV cache and see a text whole: llama_model::create_memory, src/llama-model.cpp of llama.cpp.
ENCODERS: Final = frozenset(
    {
        "bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "eurobert",
        "modern-bert",
        "gemma-embedding",
    }
)


def pooling_of(said: Pooling | None, wanted: Pooling | None, architecture: str) -> Pooling | None:
    """How a model pools: `none` generates text, None is a model for vectors whose file does not say how.

    said: by the file. wanted: by models.yaml.
    """
    if wanted is not None:
        return None if wanted == "none" and architecture in ENCODERS else wanted
    if said in (None, "none"):
        return None if architecture in ENCODERS else "none"
    return said


def kind_of(pooling: Pooling | None) -> ModelKind:
    """What a model that pools like this is for."""
    return "chat" if pooling == "none" else "rerank" if pooling == "rank" else "embedding"
