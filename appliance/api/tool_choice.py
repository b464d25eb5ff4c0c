"""The tools of a chat request, in today's fields and in the older ones."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from appliance.api.openai_schema import ChatCompletionRequest
from appliance.api.parsed import AnswerTerms
from appliance.api.request_fields import free_form
from appliance.chat import Tools
from appliance.errors import RequestError
from appliance.types import CallChoice, Constraint

Choice = Literal["none", "auto", "required"]

_list_decoder: Final = msgspec.json.Decoder(list[dict[str, Any]])


class AskedTools(Struct, frozen=True, kw_only=True):
    """tools: as templates take them. choice: `required` is at least one call. only: of these alone; empty: of any.

    legacy: the request speaks of functions, and so does its answer.
    """

    tools: tuple[dict[str, Any], ...] = ()
    choice: Choice = "auto"
    only: tuple[str, ...] = ()
    parallel: bool = True
    legacy: bool = False

    @property
    def rendered(self) -> tuple[dict[str, Any], ...]:
        """Those that the model gets to see."""
        return () if self.choice == "none" else self.tools

    def must_call(self, constraint: Constraint | None) -> CallChoice | None:
        """What the engine is to keep the answer to. Raises RequestError where it must be something else as well."""
        if self.choice != "required":
            return None
        param = "function_call" if self.legacy else "tool_choice"
        if constraint is not None:
            message = f"{param}, {constraint.param}: an answer can be kept to one of them; send one"
            raise RequestError("invalid_request", message, param=constraint.param)
        return CallChoice(only=self.only, parallel=self.parallel and not self.legacy, param=param)

    def wanted(self, *, reasoning: bool) -> AnswerTerms:
        """How its answers are to be read. Where tools are named, only their calls are calls, also in a thought."""
        only = self.only
        return AnswerTerms(
            tools=Tools(tool for tool in self.rendered if not only or tool["function"]["name"] in only),
            calls_max=1 if self.legacy or not self.parallel else None,
            reasoning=reasoning,
            called="function_call" if self.legacy else "tool_calls",
        )


def asked_tools(body: ChatCompletionRequest) -> AskedTools:
    """Raises RequestError for what is wrong with them."""
    legacy = bytes(body.functions) not in (b"", b"null") and bytes(body.tools) in (b"", b"null")
    field, choice_field = ("functions", "function_call") if legacy else ("tools", "tool_choice")
    tools = free_form(field, body.functions if legacy else body.tools, _list_decoder) or []
    if legacy:
        tools = [{"type": "function", "function": function} for function in tools]
    if not legacy:
        # Of no effect, but not of another type than it says.
        free_form("functions", body.functions, _list_decoder)
    for index, tool in enumerate(tools):
        _check(f"{field}[{index}]", tool)
    choice, only = _choice(choice_field, body.function_call if legacy else body.tool_choice)
    known = Tools(tools)
    for name in only:
        if name not in known:
            message = f"{choice_field}: no tool is called {name[:64]!r}; name one of {field}"
            raise RequestError("invalid_request", message, param=choice_field)
    if choice == "required" and not tools:
        raise RequestError("invalid_request", f"{choice_field}: needs {field}", param=choice_field)
    return AskedTools(
        tools=tuple(tools),
        choice=choice,
        only=only,
        parallel=body.parallel_tool_calls is not False,
        legacy=legacy,
    )


def _check(place: str, tool: dict[str, Any]) -> None:
    """Other kinds of tools than functions are the server's own, of which this one has none."""
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        message = f"{place}: expected {{type: function, function: {{name, description, parameters}}}}"
        raise RequestError("invalid_request", message, param=place)


def _choice(field: str, asked: str | dict[str, Any] | None) -> tuple[Choice, tuple[str, ...]]:
    if asked is None:
        return "auto", ()
    if isinstance(asked, dict):
        if asked.get("type") == "allowed_tools":
            return _allowed(field, asked.get("allowed_tools"))
        if (name := _name(asked)) is not None:
            return "required", (name,)
    elif asked in ("none", "auto", "required"):
        return asked, ()  # type: ignore[return-value]
    raise RequestError(
        "invalid_request",
        f"{field}: expected none, auto, required, the name of a function, or allowed_tools",
        param=field,
    )


def _allowed(field: str, asked: Any) -> tuple[Choice, tuple[str, ...]]:
    """All tools stay in the prompt, which is therefore found again in the KV cache, whichever of them are allowed."""
    mode, tools = (asked.get("mode"), asked.get("tools")) if isinstance(asked, dict) else (None, None)
    names = [_name(tool) for tool in tools] if isinstance(tools, list) else []
    known = tuple(name for name in names if name is not None)
    if mode in ("auto", "required") and known and len(known) == len(names):
        return mode, tuple(dict.fromkeys(known))
    place = f"{field}.allowed_tools"
    message = f"{place}: expected a mode, auto or required, and at least one tool of type function, with its name"
    raise RequestError("invalid_request", message, param=place)


def _name(asked: Any) -> str | None:
    """Of the function that a choice speaks of, in today's shape or the older one."""
    function = asked.get("function", asked) if isinstance(asked, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
