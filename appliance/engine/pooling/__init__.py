"""The engine of a model that makes vectors or scores of whole texts, in the place of new text."""
