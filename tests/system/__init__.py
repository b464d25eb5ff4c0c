"""The product on a real Debian with a real systemd as PID 1, and no network."""
