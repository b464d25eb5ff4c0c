"""Prompts and answers kept for auditors: encrypted, bounded, off unless appliance.yaml turns it on."""
