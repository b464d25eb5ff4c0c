"""Whether an appliance can do its work: facts gathered by thin probes, and pure verdicts over them."""
