"""A request refused by access control."""

from __future__ import annotations

from appliance.errors import ErrorCode, RequestError


class Refusal(RequestError):
    """`message` is for the client and gives nothing away; `reason` completes "<address> …" in the operator's log."""

    def __init__(self, code: ErrorCode, message: str, *, reason: str) -> None:
        super().__init__(code, message)
        self.reason = reason
