"""Models: how they are found, run in worker processes, and asked."""
