"""The objects of OpenAI's Responses API, as far as this API reads and writes them.

Requests: as in `openai_schema`. What is an item of an answer is an item of the next request's input too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from appliance.api.openai_schema import ChatLogprob, Logprobs, MaxTokens, Object, Objects, Unsupported
from appliance.types import Usage

ITEMS_MAX = 100_000
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Truncation = Literal["auto", "disabled"]
ResponseId = Annotated[str, Meta(min_length=1, max_length=128)]
ItemId = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=64)]
Metadata = Annotated[dict[Label, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]

# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class PartIn(Struct, frozen=True):
    """A part of an item's content."""

    type: str
    text: str | None = None
    refusal: str | None = None


class ItemIn(Struct, frozen=True, kw_only=True):
    """An item of any type, with the fields of those that can be answered. type: absent in a message."""

    type: str | None = None
    id: ItemId | None = None
    role: str | None = None
    content: str | list[PartIn] | None = None
    call_id: ItemId | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[PartIn] | None = None


class ReasoningIn(Struct, frozen=True, kw_only=True):
    """How much the model shall think. summary: of no effect, see docs/API.md."""

    effort: Label | None = None
    summary: Label | None = None


class TextIn(Struct, frozen=True, kw_only=True):
    """format: free-form, see `response_format` of a chat."""

    format: Object = field(default_factory=Raw)


class ResponsesRequest(Struct, frozen=True, kw_only=True):
    """POST /v1/responses: what is its own. What it shares with chats goes on to these."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[ItemIn], Meta(max_length=ITEMS_MAX)] | None = None
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    max_tool_calls: int | None = None
    tools: Objects = field(default_factory=Raw)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextIn | None = None
    reasoning: ReasoningIn | None = None
    top_logprobs: Logprobs | None = None
    include: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=64)] | None = None
    store: bool | None = None
    previous_response_id: ResponseId | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    truncation: Truncation | None = None
    background: bool | None = None
    conversation: Unsupported = field(default_factory=Raw)
    prompt: Unsupported = field(default_factory=Raw)
    moderation: Unsupported = field(default_factory=Raw)


# ── items ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text that the client wrote."""

    text: str


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text that the model wrote."""

    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[ChatLogprob, ...] = ()


class ReasoningText(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """What the model thought."""

    text: str


class MessageItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A turn of a conversation."""

    id: str
    role: Literal["user", "assistant", "system", "developer"]
    content: tuple[InputText | OutputText, ...] = ()
    status: ItemStatus = "completed"


class ReasoningItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """What the model thought before what follows it."""

    id: str
    summary: tuple[()] = ()
    content: tuple[ReasoningText, ...] = ()
    status: ItemStatus = "completed"


class FunctionCallItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    """A call of a tool. arguments: JSON as text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus = "completed"


class FunctionOutputItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call_output"):
    """What the called tool said."""

    id: str
    call_id: str
    output: str
    status: ItemStatus = "completed"


OutputItem = MessageItem | ReasoningItem | FunctionCallItem
Item = OutputItem | FunctionOutputItem
Part = OutputText | ReasoningText

# ── responses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class InputTokensDetails(Struct, frozen=True):
    """How much of the input was already in the KV cache. cache_write_tokens: OpenAI's; nothing is counted here."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    """How much of the output the model thought with."""

    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True):
    """Tokens of one request, chat template included."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> ResponseUsage:
        """The shape of a Usage here."""
        return cls(
            usage.prompt_tokens,
            InputTokensDetails(usage.cached_tokens),
            usage.completion_tokens,
            OutputTokensDetails(usage.reasoning_tokens or 0),
            usage.prompt_tokens + usage.completion_tokens,
        )


class IncompleteDetails(Struct, frozen=True):
    """Why a response is incomplete: max_output_tokens, the context or the time has run out."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseError(Struct, frozen=True):
    """Why a response failed. code: of OpenAI's few; appliance_code: the exact one, as in every other error."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str
    appliance_code: str


class ReasoningOut(Struct, frozen=True):
    """As it was asked for."""

    effort: str | None = None
    summary: None = None


class TextOut(Struct, frozen=True):
    """As it was asked for."""

    format: dict[str, Any]


class Response(Struct, frozen=True, kw_only=True):
    """One response, from its beginning on.

    system_fingerprint: a chat's. appliance_unparsed_tool_call: its text began as a call of a tool and is none.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: tuple[OutputItem, ...] = ()
    usage: ResponseUsage | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int = 0
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    text: TextOut = TextOut({"type": "text"})
    reasoning: ReasoningOut = ReasoningOut()
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    store: bool = False
    background: bool = False
    truncation: Truncation = "disabled"
    service_tier: Literal["default"] = "default"
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    system_fingerprint: str | None = None
    appliance_unparsed_tool_call: bool | UnsetType = UNSET


class KeptResponse(Struct, frozen=True, kw_only=True):
    """What is kept of a response. items: all that it answered, of the responses before it too, as `Item`s."""

    items: Raw
    response: Raw


class ItemList(Struct, frozen=True, kw_only=True):
    """GET /v1/responses/{id}/input_items."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    first_id: str
    last_id: str
    has_more: bool


class ResponseDeleted(Struct, frozen=True, kw_only=True):
    """DELETE /v1/responses/{id}."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class InputTokens(Struct, frozen=True, kw_only=True):
    """POST /v1/responses/input_tokens."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class ResponseEvent(Struct, frozen=True, kw_only=True):
    """One event of a stream; which fields it has depends on its type. sequence_number: from 0."""

    type: str
    sequence_number: int
    response: Response | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    part: Part | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    logprobs: tuple[ChatLogprob, ...] | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    param: str | UnsetType | None = UNSET
