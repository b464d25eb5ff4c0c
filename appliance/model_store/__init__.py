"""Model files that were imported: copied, hashed, tried, and watched from then on. Nothing here parses tensors."""
