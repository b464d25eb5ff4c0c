"""Whether the product takes what comes of the answers, found out before any of it is in its place."""

from __future__ import annotations

import tempfile
from pathlib import Path

from appliance.clock import utc_now
from appliance.config import load_config, load_models
from appliance.errors import ConfigError
from appliance.first_run.answers import Answers, check_answers
from appliance.first_run.files import APPLIANCE_YAML, MODELS_YAML, files
from appliance.security.access_view import ConfiguredAccess


def check_taken(answers: Answers) -> None:
    """Raises ConfigError, which names the key."""
    check_answers(answers)
    written = files(answers)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in (APPLIANCE_YAML, MODELS_YAML):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(written[name])
        try:
            config = load_config(root / APPLIANCE_YAML)
            ConfiguredAccess.load(config, root, utc_now())
            load_models(root / MODELS_YAML)
        except ConfigError as error:
            raise ConfigError(f"what comes of the answers is refused: {error}".replace(f"{root}/", "/")) from None
