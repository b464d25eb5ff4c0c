"""SQLite: the one place that imports it."""
