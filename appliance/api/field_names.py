"""What the fields of a chat are called in another API that asks for the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from appliance.errors import RequestError
from appliance.types import Request


class FieldNames(Struct, frozen=True):
    """theirs: by the chat's name, the longest first; what lies inside of a field is inside of theirs too."""

    theirs: Mapping[str, str]

    def of(self, param: str) -> str:
        """A field by its name in this API."""
        for chats, ours in self.theirs.items():
            if param == chats or param.startswith((f"{chats}.", f"{chats}[")):
                return ours + param.removeprefix(chats)
        return param

    def error(self, error: RequestError) -> RequestError:
        """The same refusal, which names the field that the client wrote."""
        if error.param is None or (ours := self.of(error.param)) == error.param:
            return error
        message = error.message.replace(error.param, ours, 1)
        return RequestError(error.code, message, param=ours, retry_after=error.retry_after, details=error.details)

    def request(self, request: Request) -> Request:
        """What the worker refuses later names it, too."""
        constraint = request.constraint
        if constraint is None:
            return request
        return replace(request, constraint=replace(constraint, param=self.of(constraint.param)))
