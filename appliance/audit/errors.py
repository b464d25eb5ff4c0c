"""The audit log's own errors, below StateError in the product's tree.

StateError
└── AuditUnavailable    a record could not be made durable: what it stands for must not happen
"""

from __future__ import annotations

from appliance.errors import StateError


class AuditUnavailable(StateError):
    """The audit log cannot be written now. It resumes by itself; the message says what is wrong."""
