"""Whom probes are from, and what they ask: one token, so that a model shows that it computes."""

from typing import Final

PROBE: Final = "appliance:probe"
PROBE_PROMPT: Final = "1"
