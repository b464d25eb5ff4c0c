"""What ends a command of the installer, said once, with what to do next.

SetupError
├── Refused      nothing was touched: the bundle, the host or the answers are not right
└── StepFailed   something was begun, and what became of it is in the message
"""

from __future__ import annotations


class SetupError(Exception):
    """Its text is for the operator."""


class Refused(SetupError):
    """Nothing was touched."""


class StepFailed(SetupError):
    """Something was begun."""
