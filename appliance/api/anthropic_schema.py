"""Anthropic's request and response objects of the Messages API, as far as this API reads and writes them.

As in `openai_schema`: fields that are not declared here are ignored, declared ones are strict, null is the same as
absent. Everything that goes out has its `type` as a tag, which also names its event.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from appliance.api.openai_schema import CacheSalt, ContentPart, DeadlineSeconds, KeepAlive, MaxTokensOrNone, StopString
from appliance.types import STOP_STRINGS_MAX, Priority, Probability, Seed, TopK, Usage

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
    "timeout_error",
]
StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]

# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class BlockIn(Struct, frozen=True):
    """One block of a turn. `type` says which of the fields it has; see `messages_chat`."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = field(default_factory=Raw)
    tool_use_id: str | None = None
    content: str | list[ContentPart] | None = None
    is_error: bool | None = None


class TurnIn(Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[BlockIn]


class ToolIn(Struct, frozen=True):
    """A tool that the client runs. type: absent or `custom`; others are the server's own."""

    name: str | None = None
    description: str | None = None
    input_schema: Raw = field(default_factory=Raw)
    type: str | None = None
    strict: bool | None = None


class ToolChoiceIn(Struct, frozen=True):
    """name: of the tool that is to be called, with `tool`. disable_parallel_tool_use: at most one call."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingIn(Struct, frozen=True):
    """budget_tokens: most tokens to think with. display: `omitted` leaves thinking out of the answer."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    display: str | None = None


class JsonFormat(Struct, frozen=True):
    """The answer is JSON of this schema."""

    type: Literal["json_schema"]
    schema: Raw


class OutputConfig(Struct, frozen=True):
    """effort: goes to the template. format: what the answer must be."""

    effort: Annotated[str, Meta(max_length=64)] | None = None
    format: JsonFormat | None = None


class Metadata(Struct, frozen=True):
    """user_id: requests of one client take turns by it."""

    user_id: str | None = None


class MessagesFields(Struct, frozen=True, kw_only=True):
    """What makes a prompt: POST /v1/messages/count_tokens. output_format: the older place of `output_config.format`."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[TurnIn], Meta(min_length=1, max_length=100_000)]
    system: str | list[ContentPart] | None = None
    tools: list[ToolIn] | None = None
    tool_choice: ToolChoiceIn | None = None
    thinking: ThinkingIn | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None


class MessagesRequest(MessagesFields, frozen=True, kw_only=True):
    """POST /v1/messages. max_tokens: 0 computes the prompt, for later ones to find it in the KV cache.

    seed, priority, deadline_seconds, keep_alive, cache_salt: ours, see `CompletionFields`.
    """

    max_tokens: MaxTokensOrNone
    stream: bool | None = None
    stop_sequences: Annotated[list[StopString], Meta(max_length=STOP_STRINGS_MAX)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Probability | None = None
    top_k: TopK | None = None
    metadata: Metadata | None = None
    seed: Seed | None = None
    priority: Priority | None = None
    deadline_seconds: DeadlineSeconds | None = None
    keep_alive: KeepAlive | None = None
    cache_salt: CacheSalt | None = None


# ── responses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class ThinkingTokens(Struct, frozen=True):
    """How much of the answer the model thought with."""

    thinking_tokens: int


class MessageUsage(Struct, frozen=True, kw_only=True):
    """Tokens of one request. input_tokens: of the prompt, without those that were already in the KV cache."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens | UnsetType = UNSET

    @classmethod
    def of(cls, usage: Usage) -> MessageUsage:
        """Anthropic's shape of a Usage."""
        return cls(
            input_tokens=usage.prompt_tokens - usage.cached_tokens,
            cache_read_input_tokens=usage.cached_tokens,
            output_tokens=usage.completion_tokens,
            output_tokens_details=UNSET
            if usage.reasoning_tokens is None
            else ThinkingTokens(thinking_tokens=usage.reasoning_tokens),
        )


class TextBlock(Struct, frozen=True, tag_field="type", tag="text"):
    """Text for the reader."""

    text: str


class ThinkingBlock(Struct, frozen=True, tag_field="type", tag="thinking"):
    """What the model thought. signature: nobody here signs it."""

    thinking: str
    signature: str = ""


class ToolUseBlock(Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call. input: the JSON object as the model wrote it; in a stream it begins empty."""

    id: str
    name: str
    input: Raw


Block = TextBlock | ThinkingBlock | ToolUseBlock


class MessageOut(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A whole answer, or how a stream begins. appliance_unparsed_tool_call: a text began as a call and is none."""

    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Block]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: MessageUsage
    appliance_unparsed_tool_call: bool | UnsetType = UNSET


class MessageStart(Struct, frozen=True, tag_field="type", tag="message_start"):
    """The first event. Its usage knows the prompt alone."""

    message: MessageOut


class BlockStart(Struct, frozen=True, tag_field="type", tag="content_block_start"):
    """A block begins; one at a time is open."""

    index: int
    content_block: Block


class TextDelta(Struct, frozen=True, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """More thinking."""

    thinking: str


class SignatureDelta(Struct, frozen=True, tag_field="type", tag="signature_delta"):
    """Clients expect it at the end of a thinking block."""

    signature: str = ""


class InputJsonDelta(Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    """The input of a call, as text."""

    partial_json: str


class BlockDelta(Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    """More of the block that is open."""

    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class BlockStop(Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    """The block is complete."""

    index: int


class MessageEnd(Struct, frozen=True, kw_only=True):
    """Why an answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None = None
    appliance_unparsed_tool_call: bool | UnsetType = UNSET


class MessageDelta(Struct, frozen=True, tag_field="type", tag="message_delta"):
    """What is known at the end. usage: of the whole request."""

    delta: MessageEnd
    usage: MessageUsage


class MessageStop(Struct, frozen=True, tag_field="type", tag="message_stop"):
    """The last event."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class ErrorFields(Struct, frozen=True):
    """details: `error_code`, which names the cause as `code` does in OpenAI's shape, `param`, and figures."""

    type: ErrorType
    message: str
    details: dict[str, int | str]


class ErrorOut(Struct, frozen=True, tag_field="type", tag="error"):
    """Every error, as a body or as an event."""

    error: ErrorFields
    request_id: str


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """The answer is still being made."""


StreamEvent = Event | Ping | ErrorOut


class TokenCount(Struct, frozen=True):
    """The answer to POST /v1/messages/count_tokens."""

    input_tokens: int
