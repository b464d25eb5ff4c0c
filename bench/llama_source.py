"""llama.cpp's sources, out of the llama-cpp-python archive that requirements/runtime.lock pins.

Inside it lie llama-server's sources and vocabulary-only GGUFs, so that the comparison is with the very llama.cpp that
the appliance runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.source_archive import BUILD, unpacked_source

LOCK: Final = Path("requirements/runtime.lock")
_PACKAGE: Final = "llama-cpp-python"


@dataclass(frozen=True, slots=True)
class LlamaSource:
    """An unpacked archive. root: llama.cpp's top folder. version: llama-cpp-python's."""

    root: Path
    version: str

    @property
    def qwen2_vocabulary(self) -> Path:
        """Qwen2's tokenizer as a GGUF without tensors."""
        return self.root / "models" / "ggml-vocab-qwen2.gguf"


def fetch(folder: Path = BUILD / "src", lock: Path = LOCK) -> LlamaSource:
    """See `unpacked_source`."""
    root = unpacked_source(_PACKAGE, lock, folder)
    return LlamaSource(root / "vendor" / "llama.cpp", metadata.version(_PACKAGE))
