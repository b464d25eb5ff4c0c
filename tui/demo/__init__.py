"""An appliance that is made up, from a seed: for learning the keys, for documents and for tests."""
