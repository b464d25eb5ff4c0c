"""Builds and measures the demo model; not used when the appliance runs."""
