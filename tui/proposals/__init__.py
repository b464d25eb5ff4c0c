"""What an operator may do, as proposals: pure functions from what is chosen to what would be asked of the appliance."""
