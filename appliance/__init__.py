"""The LLM appliance: local GGUF models for an intranet, behind mutual TLS."""

__version__ = "0.1.0"
