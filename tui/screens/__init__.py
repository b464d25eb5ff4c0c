"""The seven screens. Each owns its keys and what is chosen on it, and draws what the board knows."""
