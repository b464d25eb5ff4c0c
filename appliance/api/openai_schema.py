"""OpenAI's request and response objects, as far as this API reads and writes them.

Requests: fields that are not declared here are ignored (clients send many); declared ones are strict. null is the
same as absent. Responses: what clients read, in the order they expect.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from appliance.types import (
    PROMPT_TOKENS_MAX,
    STOP_STRING_CHARS_MAX,
    STOP_STRINGS_MAX,
    FinishReason,
    Penalty,
    Probability,
    RepeatPenalty,
    Seed,
    Temperature,
    TokenId,
    TopK,
    Usage,
)

MaxTokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
StopString = Annotated[str, Meta(min_length=1, max_length=STOP_STRING_CHARS_MAX)]
Stop = StopString | Annotated[list[StopString], Meta(max_length=STOP_STRINGS_MAX)]

# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class StreamOptions(Struct, frozen=True):
    """include_usage: ask for a last chunk with `choices: []` and the usage."""

    include_usage: bool | None = None


class FunctionIn(Struct, frozen=True):
    """The function of a past call; `arguments` is JSON as text."""

    name: str
    arguments: str = "{}"


class ToolCallIn(Struct, frozen=True):
    """A past call in an assistant turn."""

    function: FunctionIn
    id: str | None = None


class ContentPart(Struct, frozen=True):
    """One part of a turn's content. Only `text` parts can be answered."""

    type: str
    text: str | None = None


class MessageIn(Struct, frozen=True):
    """One turn of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallIn] | None = None
    tool_call_id: str | None = None
    function_call: FunctionIn | None = None


class ResponseFormat(Struct, frozen=True):
    """`text` is the only type this version can promise."""

    type: str


class SamplingFields(Struct, frozen=True, kw_only=True):
    """What both completion endpoints share. An absent field takes the model's default from models.yaml."""

    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: TopK | None = None
    min_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repeat_penalty: RepeatPenalty | None = None
    repeat_last_n: Annotated[int, Meta(ge=0, le=65536)] | None = None
    seed: Seed | None = None
    ignore_eos: bool | None = None
    stop: Stop | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None


class ChatCompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """POST /v1/chat/completions. `tools` and `chat_template_kwargs` are free-form: read by `free_form`."""

    messages: Annotated[list[MessageIn], Meta(min_length=1, max_length=100_000)]
    max_completion_tokens: MaxTokens | None = None
    tools: Raw = Raw()
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    chat_template_kwargs: Raw = Raw()


class CompletionRequest(SamplingFields, frozen=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str | TokenId], Meta(max_length=PROMPT_TOKENS_MAX)]
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None
    logprobs: int | None = None


# ── responses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class PromptTokensDetails(Struct, frozen=True):
    """How much of the prompt was already in the KV cache."""

    cached_tokens: int


class UsageOut(Struct, frozen=True):
    """Tokens of one request, chat template included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails

    @classmethod
    def of(cls, usage: Usage) -> UsageOut:
        """OpenAI's shape of a Usage."""
        total = usage.prompt_tokens + usage.completion_tokens
        return cls(usage.prompt_tokens, usage.completion_tokens, total, PromptTokensDetails(usage.cached_tokens))


class ChatDelta(Struct, frozen=True, omit_defaults=True):
    """What one chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatMessageOut(Struct, frozen=True):
    """The whole answer."""

    content: str
    role: Literal["assistant"] = "assistant"


class ChatChunkChoice(Struct, frozen=True):
    """The one choice of a chunk."""

    delta: ChatDelta
    index: int = 0
    logprobs: None = None
    finish_reason: FinishReason | None = None


class ChatChoice(Struct, frozen=True):
    """The one choice of a whole answer."""

    message: ChatMessageOut
    finish_reason: FinishReason
    index: int = 0
    logprobs: None = None


class TextChoice(Struct, frozen=True):
    """The one choice of a completion, whole or chunk."""

    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: FinishReason | None = None


Choice = ChatChunkChoice | ChatChoice | TextChoice


class CompletionObject(Struct, frozen=True, kw_only=True):
    """A chunk or a whole answer of either endpoint."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk", "text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: UsageOut | UnsetType = UNSET


class ModelMeta(Struct, frozen=True, kw_only=True):
    """What is known of a model; sizes only once it has been loaded. n_ctx: most tokens of one request."""

    state: str
    n_ctx: int | None
    n_ctx_train: int | None
    n_params: int | None
    size: int | None


class ModelObject(Struct, frozen=True, kw_only=True):
    """One model of GET /v1/models."""

    id: str
    created: int
    aliases: tuple[str, ...]
    meta: ModelMeta
    object: Literal["model"] = "model"
    owned_by: str = "appliance"


class ModelList(Struct, frozen=True, kw_only=True):
    """GET /v1/models."""

    data: list[ModelObject]
    object: Literal["list"] = field(default="list")
