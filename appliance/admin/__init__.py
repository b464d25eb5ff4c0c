"""The admin API: who may change what, over a Unix socket and, where configured, mutual TLS."""
