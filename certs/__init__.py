"""Data of the product around certificates: the issuance profiles. Read by appliance.security.profiles."""
