"""Alerts: what is wrong by the figures, what has become of it, and who is told."""
