"""Whom probes are from, and what they ask: the least by which a model shows that it computes."""

from __future__ import annotations

from typing import Final

from appliance.types import EmbeddingPrompt, ModelKind, Prompt, RerankPrompt, TextPrompt

PROBE: Final = "appliance:probe"
PROBE_PROMPT: Final = "1"


def probe_prompt(kind: ModelKind) -> Prompt:
    """For one token of a model that generates, one vector or one score of another."""
    match kind:
        case "embedding":
            return EmbeddingPrompt(inputs=(PROBE_PROMPT,))
        case "rerank":
            return RerankPrompt(query=PROBE_PROMPT, documents=(PROBE_PROMPT,))
        case "chat":
            return TextPrompt(text=PROBE_PROMPT)
