"""Encryption at rest: data keys, and the key-encryption key that wraps them."""
