"""Who may connect and who they are: gate, TLS, certificates, API keys. `authority` has what the daemon holds."""
