"""What can be said of a model file without opening it as a model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.errors import ConfigError
from appliance.types import ModelSpec

_MAGIC: Final = b"GGUF"


def check_model_file(spec: ModelSpec, source: Path) -> None:
    """Refuses a path that is missing, unreadable or no GGUF file. `source` names the models.yaml at fault.

    The content is not looked at: a GGUF is untrusted input, and only a worker parses it.
    """
    path = Path(spec.path)
    if path.exists() and not path.is_file():
        raise ConfigError(f"model {spec.id!r}: {path} is not a regular file", path=source)
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise ConfigError(f"model {spec.id!r}: {path}: {error.strerror}", path=source) from error
    if magic != _MAGIC:
        raise ConfigError(f"model {spec.id!r}: {path} is not a GGUF file", path=source)
