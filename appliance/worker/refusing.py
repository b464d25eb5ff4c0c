"""The one Failed of a request that cannot run."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

import msgspec

from appliance.errors import RequestError
from appliance.wire import Failed, Step


def refuse(number: int, error: RequestError, status: Step, send: Callable[[Step], None]) -> None:
    """Answers a request with what is wrong with it."""
    failed = Failed(number=number, code=error.code, message=error.message, param=error.param, details=error.details)
    send(msgspec.structs.replace(status, events=(failed,)))


def refuse_unreadable(number: int, error: Exception, status: Step, send: Callable[[Step], None]) -> None:
    """A bug, but only this request's: its text may be in the message, so that only the place is logged."""
    sys.stderr.write("".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}\n")
    refuse(
        number,
        RequestError("internal_error", "the engine could not read this request; tell the operator, whose log has more"),
        status,
        send,
    )
