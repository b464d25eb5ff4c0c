"""What happened: one record per request, and where it is kept."""
