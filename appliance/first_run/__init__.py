"""The first configuration of a host: what is asked, and the files that come of the answers."""
