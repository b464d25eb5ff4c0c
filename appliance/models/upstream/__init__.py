"""Models that other OpenAI-compatible servers serve, behind the same access, limits and records as our own."""
