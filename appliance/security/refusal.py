"""A request refused by access control."""

from __future__ import annotations

from typing import Final

from appliance.errors import ErrorCode, RequestError

# Of every fault of a key or a token: which one it is helps who guesses.
INCORRECT_KEY: Final = "Incorrect API key provided. Check it, or ask the operator for a new one."


class Refusal(RequestError):
    """`message` is for the client and gives nothing away; `reason` completes "<address> …" in the operator's log.

    kind: what the logs call it and fold it by, where that is more than the client may know; None: the code.
    kid: of the API key that was shown, where its secret was right.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, reason: str, kind: str | None = None, kid: str | None = None
    ) -> None:
        super().__init__(code, message)
        self.reason = reason
        self.kind: str = kind or code
        self.kid = kid
