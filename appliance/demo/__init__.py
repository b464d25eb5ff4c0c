"""The bundled demo chat model: a tiny network that only knows this appliance (docs/DEMO_MODEL.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEMO_MODEL_PATH: Final = Path(__file__).resolve().parent / "demo-chat-q8_0.gguf"
DEMO_MODELS: Final = Path(__file__).resolve().parent / "models.yaml"
