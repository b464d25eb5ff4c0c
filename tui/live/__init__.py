"""The admin API of a running appliance as a source, and what its host shows without it."""
