"""Responses that clients asked to be kept: encrypted, each for its owner alone, for as long as appliance.yaml says."""
