"""What a chat template can show, found out by rendering short conversations and looking for their words in the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from appliance.errors import RequestError
from appliance.types import ChatMessage, ChatPrompt, ToolCall, ToolFunction

# Words that no template writes by itself.
_TOOL, _CITY, _TOWN = "zqtoolx", "zqcityx", "zqtownx"
_RESULT, _SYSTEM, _LAST = "zqresultx", "zqsystemx", "zqlastx"
_LONG_ID: Final = "call_0123456789abcdef"
_SHORT_ID: Final = "abcdefghi"
_TOOLS: Final[tuple[dict[str, Any], ...]] = (
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": _TOOL,
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "a city"}}},
        },
    },
)


class StoppedError(RequestError):
    """The template ran for too long or made too much: to try it with anything else would be as bad."""


class Abilities(Struct, frozen=True, kw_only=True):
    """What can be rendered as it is. By default everything.

    tools: their descriptions. calls, results: those of past turns; parallel_calls: several in one turn; spoken_calls:
    beside text in one turn, or that a turn of their own behind it would not help. orphans: results with no call before
    them. system: a first system turn; later_system: one in the middle. repeats: two turns of one role in a row;
    assistant_first: a conversation that the assistant begins. long_ids: ids of calls of any length, and not of nine
    characters alone. no_tools: `tools` may be none where there are none.
    """

    tools: bool = True
    calls: bool = True
    parallel_calls: bool = True
    spoken_calls: bool = True
    results: bool = True
    orphans: bool = True
    system: bool = True
    later_system: bool = True
    repeats: bool = True
    assistant_first: bool = True
    long_ids: bool = True
    no_tools: bool = True


PLAIN: Final = Abilities(
    tools=False,
    calls=False,
    parallel_calls=False,
    results=False,
    orphans=False,
    system=False,
    later_system=False,
    repeats=False,
    assistant_first=False,
    long_ids=False,
)


def abilities_of(render: Callable[[ChatPrompt, bool], str]) -> Abilities:
    """render: a prompt with `tools` none where it has none, or with an empty list. Raises RequestError."""

    def shows(*messages: ChatMessage, words: tuple[str, ...] = (), tools: tuple[dict[str, Any], ...] = ()) -> bool:
        try:
            text = render(ChatPrompt(messages=messages, tools=tools), no_tools)
        except StoppedError:
            raise
        except RequestError:
            return False
        return all(word in text for word in words)

    no_tools = True
    if not shows(_user(_LAST), words=(_LAST,)):
        no_tools = False
        if not shows(_user(_LAST), words=(_LAST,)):
            # It shows nothing at all: there is nothing to find out.
            return Abilities()

    def called(call_id: str, *words: str) -> bool:
        return shows(_user("a"), _calling(call_id, _CITY), _result(call_id), words=words, tools=_TOOLS)

    long_ids = called(_LONG_ID)
    call_id = _LONG_ID if long_ids or not called(_SHORT_ID) else _SHORT_ID
    calls = called(call_id, _CITY)
    two = (_user("a"), _calling(call_id, _CITY, _TOWN), _result(call_id), _result(call_id))
    calling, ended = (
        _calling(call_id, _CITY),
        (_result(call_id), ChatMessage(role="assistant", content="b"), _user("c")),
    )
    together = (_user("a"), replace(calling, content=_LAST), *ended)
    apart = (_user("a"), ChatMessage(role="assistant", content=_LAST), calling, *ended)
    spoken_calls = not calls or shows(*together, words=(_LAST, _CITY), tools=_TOOLS)
    orphans = shows(_user("a"), ChatMessage(role="assistant", content="b"), _result(call_id), words=(_RESULT,))
    found = Abilities(
        tools=shows(_user("a"), words=(_TOOL,), tools=_TOOLS),
        calls=calls,
        parallel_calls=calls and shows(*two, words=(_CITY, _TOWN), tools=_TOOLS),
        spoken_calls=spoken_calls or not shows(*apart, words=(_LAST, _CITY), tools=_TOOLS),
        results=called(call_id, _RESULT) if calls else orphans,
        orphans=orphans,
        system=shows(ChatMessage(role="system", content=_SYSTEM), _user(_LAST), words=(_SYSTEM, _LAST)),
        repeats=shows(_user(_SYSTEM), _user(_LAST), words=(_SYSTEM, _LAST)),
        assistant_first=shows(ChatMessage(role="assistant", content=_SYSTEM), _user(_LAST), words=(_LAST,)),
        long_ids=call_id == _LONG_ID,
        no_tools=no_tools,
    )
    first = (ChatMessage(role="system", content=_TOWN),) if found.system else ()
    later = (_user("a"), ChatMessage(role="assistant", content="b"), ChatMessage(role="system", content=_SYSTEM))
    words = (_SYSTEM, _LAST, *(message.content for message in first))
    return replace(found, later_system=shows(*first, *later, _user(_LAST), words=words))


def _user(content: str) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def _calling(call_id: str, *cities: str) -> ChatMessage:
    functions = (ToolFunction(name="look_up", arguments=f'{{"city": "{city}"}}') for city in cities)
    return ChatMessage(
        role="assistant", tool_calls=tuple(ToolCall(id=call_id, function=function) for function in functions)
    )


def _result(call_id: str) -> ChatMessage:
    return ChatMessage(role="tool", content=_RESULT, name="look_up", tool_call_id=call_id)
