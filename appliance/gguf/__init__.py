"""GGUF files as data: what their headers say. Pure; the tensors' content is never read."""
