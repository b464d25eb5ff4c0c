"""What the routes of the admin API do, by noun."""
