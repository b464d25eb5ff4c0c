"""Installs, upgrades, returns and removes the appliance on a host.

It runs before anything of ours is installed: on the host's own Python 3.11 or newer, with nothing but its standard
library, as one file (a zipapp) from the bundle.
"""
