"""The audit log: a chain of records that shows tampering."""
