"""The admin API as a client sees it."""
