"""The process that is handed one connected socket and serves one model on it."""
