"""How people are told of alerts: syslog, mail and webhooks; a queue for each receiver."""
