"""OpenAI's request and response objects, as far as this API reads and writes them.

Requests: fields that are not declared here are ignored (clients send many); declared ones are strict. null is the
same as absent. Responses: what clients read, in the order they expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, defstruct, field, structs

from appliance.errors import ErrorCode, ErrorType
from appliance.types import (
    CHOICE_TEXTS_MAX,
    PROMPT_TOKENS_MAX,
    STOP_STRING_CHARS_MAX,
    STOP_STRINGS_MAX,
    TOP_LOGPROBS_MAX,
    FinishReason,
    ModelKind,
    Priority,
    SamplingParams,
    TokenId,
    Usage,
)

MaxTokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
MaxTokensOrNone = Annotated[int, Meta(ge=0, le=2**31 - 1)]
StopString = Annotated[str, Meta(min_length=1, max_length=STOP_STRING_CHARS_MAX)]
Stop = StopString | Annotated[list[StopString], Meta(max_length=STOP_STRINGS_MAX)]
Logprobs = Annotated[int, Meta(ge=0, le=TOP_LOGPROBS_MAX)]
DeadlineSeconds = Annotated[float, Meta(gt=0, le=86_400)]
Choices = Annotated[int, Meta(ge=1, le=128)]
ChoiceTexts = Annotated[list[str], Meta(min_length=1, max_length=CHOICE_TEXTS_MAX)]
CacheSalt = Annotated[str, Meta(min_length=1, max_length=1024)]
Forbidden = Annotated[bool, Meta(extra_json_schema={"const": False})]
LogitBias = Annotated[
    dict[
        TokenId, Annotated[float, Meta(ge=-1000, le=1000)] | Annotated[bool, Meta(extra_json_schema={"const": False})]
    ],
    Meta(max_length=1024, extra_json_schema={"propertyNames": {"pattern": "^(-?0|[1-9][0-9]{0,9})$"}}),
]
# Go's durations; what else is a text is refused by `keep_seconds`.
_DURATION = r"^[-+]?(?=[0-9])([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9.]+)?$"
KeepAlive = float | Annotated[str, Meta(max_length=32, extra_json_schema={"pattern": _DURATION})]
# Free-form fields are read later, by `free_form`, and say here what that takes.
Objects = Annotated[Raw, Meta(extra_json_schema={"type": ["array", "null"], "items": {"type": "object"}})]
Object = Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
Unsupported = Annotated[Raw, Meta(extra_json_schema={"type": "null"})]
FormatType = Annotated[str, Meta(extra_json_schema={"enum": ["text", "json_object", "json_schema"]})]
# A list of token ids is one text; among texts and lists there are none.
IDS_OR_TEXTS = {"anyOf": [{"items": {"type": "integer"}}, {"items": {"type": ["string", "array"]}}]}
Body = TypeVar("Body", bound="CompletionFields")

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
    """One turn of a chat. reasoning_content: what an assistant thought, for templates that want to know it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCallIn] | None = None
    tool_call_id: str | None = None
    function_call: FunctionIn | None = None
    reasoning_content: str | None = None


class Thinking(Struct, frozen=True):
    """type: enabled, disabled or adaptive. budget_tokens: most tokens to think with."""

    type: str | None = None
    budget_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class ResponseFormat(Struct, frozen=True):
    """json_schema: the schema, bare or as `{"name", "schema", "strict"}`. schema: llama-server's, of `json_object`."""

    type: FormatType
    json_schema: Raw = field(default_factory=Raw)
    schema: Raw = field(default_factory=Raw)


class StructuredOutputs(Struct, frozen=True):
    """vLLM's; one of them."""

    json: Raw = field(default_factory=Raw)
    regex: str | None = None
    choice: ChoiceTexts | None = None
    grammar: str | None = None
    json_object: bool | None = None


class CompletionFields(Struct, frozen=True, kw_only=True):
    """What both completion endpoints share; `with_sampling` adds the fields of SamplingParams.

    logit_bias: what SamplingParams knows, and false to forbid a token. post_sampling_probs: log probabilities of the
    distribution that was drawn from. priority, deadline_seconds: ours; they can only lower what the client has.
    timeout: what some clients call deadline_seconds.
    keep_alive: Ollama's; how long the model shall stay loaded, in seconds or as `1h30m`, for ever where it is negative.
    cache_salt: vLLM's; only requests with the same one find each other's prompts, within what the client may share.
    response_format and what follows it: what the answer must be, at most one of them (api.structured_output).
    """

    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokens | None = None
    logit_bias: LogitBias | None = None
    stop: Stop | None = None
    n: Choices | None = None
    post_sampling_probs: bool | None = None
    user: str | None = None
    priority: Priority | None = None
    deadline_seconds: DeadlineSeconds | None = None
    timeout: DeadlineSeconds | None = None
    keep_alive: KeepAlive | None = None
    cache_salt: CacheSalt | None = None
    response_format: ResponseFormat | None = None
    json_schema: Raw = field(default_factory=Raw)
    grammar: str | None = None
    regex: str | None = None
    choice: ChoiceTexts | None = None
    guided_json: Raw = field(default_factory=Raw)
    guided_regex: str | None = None
    guided_choice: ChoiceTexts | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None


class ForwardedRequest(Struct, frozen=True, kw_only=True):
    """What we must know of a request that another server answers; all else is between the client and that server."""

    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: MaxTokensOrNone | None = None
    max_completion_tokens: MaxTokens | None = None
    n: Choices | None = None
    cache_salt: CacheSalt | None = None
    logprobs: bool | int | None = None
    messages: Raw = field(default_factory=Raw)
    prompt: Raw = field(default_factory=Raw)


class ChatCompletionRequest(CompletionFields, frozen=True, kw_only=True):
    """POST /v1/chat/completions. `tools`, `functions` and `chat_template_kwargs` are free-form: read by `free_form`.

    functions, function_call: OpenAI's older names for tools and tool_choice. enable_thinking, thinking,
    reasoning_effort: go to the template. reasoning_format: llama-server's; `none` leaves the text as it is.
    reasoning_budget: most tokens to think with, -1 for any number; thinking.budget_tokens says it too.
    """

    messages: Annotated[list[MessageIn], Meta(min_length=1, max_length=100_000)]
    max_completion_tokens: MaxTokens | None = None
    tools: Objects = field(default_factory=Raw)
    tool_choice: str | dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    chat_template_kwargs: Object = field(default_factory=Raw)
    parallel_tool_calls: bool | None = None
    functions: Objects = field(default_factory=Raw)
    function_call: str | dict[str, Any] | None = None
    reasoning_effort: Annotated[str, Meta(max_length=64)] | None = None
    reasoning_format: Annotated[str, Meta(max_length=64)] | None = None
    reasoning_budget: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    enable_thinking: bool | None = None
    thinking: Thinking | bool | None = None


class CompletionRequest(CompletionFields, frozen=True, kw_only=True):
    """POST /v1/completions. max_tokens: 0 where nothing but the prompt is to be echoed."""

    max_tokens: MaxTokensOrNone | None = None
    prompt: (
        str
        | Annotated[
            list[str | TokenId | list[TokenId]],
            Meta(min_length=1, max_length=PROMPT_TOKENS_MAX, extra_json_schema=IDS_OR_TEXTS),
        ]
    )
    echo: bool | None = None
    suffix: str | None = None
    best_of: Choices | None = None
    logprobs: Logprobs | None = None


def with_sampling(body: type[Body]) -> type[Body]:
    """`body` with the fields of SamplingParams, which are declared there alone; absent is None, as everywhere here.

    An absent field takes the model's default from models.yaml.
    """
    declared = set(body.__struct_fields__)
    fields = [
        (item.name, item.type | None, None) for item in structs.fields(SamplingParams) if item.name not in declared
    ]
    return cast(type[Body], defstruct(body.__name__, fields, bases=(body,), frozen=True, kw_only=True))


# ── responses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class PromptTokensDetails(Struct, frozen=True):
    """How much of the prompt was already in the KV cache."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """How much of the answer the model thought with."""

    reasoning_tokens: int


class UsageOut(Struct, frozen=True):
    """Tokens of one request, chat template included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET

    @classmethod
    def of(cls, usage: Usage) -> UsageOut:
        """OpenAI's shape of a Usage."""
        total = usage.prompt_tokens + usage.completion_tokens
        thought = usage.reasoning_tokens
        return cls(
            usage.prompt_tokens,
            usage.completion_tokens,
            total,
            PromptTokensDetails(usage.cached_tokens),
            UNSET if thought is None else CompletionTokensDetails(thought),
        )


class FunctionOut(Struct, frozen=True, omit_defaults=True):
    """A called function, or the next piece of its arguments."""

    arguments: str
    name: str | None = None


class ToolCallDelta(Struct, frozen=True, omit_defaults=True):
    """A call, whose first chunk has all but its arguments; the next ones have a piece of these each."""

    index: Annotated[int, Meta(ge=0)]
    function: FunctionOut
    id: str | None = None
    type: Literal["function"] | None = None


class ToolCallOut(Struct, frozen=True):
    """A whole call."""

    id: str
    function: FunctionOut
    type: Literal["function"] = "function"


class ChatDelta(Struct, frozen=True, omit_defaults=True):
    """What one chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionOut | None = None


class ChatMessageOut(Struct, frozen=True):
    """The whole answer. content: null where it is calls alone."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallOut] | UnsetType = UNSET
    function_call: FunctionOut | UnsetType = UNSET


class TopLogprob(Struct, frozen=True):
    """One of the likeliest tokens. `token` has U+FFFD for what is no whole character; `bytes` is exact."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class ChatLogprob(TopLogprob, frozen=True):
    """A drawn token of a chat."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, frozen=True):
    """`refusal` is OpenAI's; it has no meaning here."""

    content: list[ChatLogprob]
    refusal: None = None


class TextLogprobs(Struct, frozen=True):
    """Lists of equal length, one entry a token. text_offset: characters of the choice's text before it.

    Nothing comes before the first token of a prompt, so that it has no probability.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class ChatChunkChoice(Struct, frozen=True):
    """A choice in a chunk. appliance_unparsed_tool_call: see ChatChoice; on the last chunk."""

    delta: ChatDelta
    index: int = 0
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None
    appliance_unparsed_tool_call: bool | UnsetType = UNSET


class ChatChoice(Struct, frozen=True):
    """A choice of a whole answer. appliance_unparsed_tool_call: its content has what began as a call and is none."""

    message: ChatMessageOut
    finish_reason: FinishReason | None
    index: int = 0
    logprobs: ChatLogprobs | None = None
    appliance_unparsed_tool_call: bool | UnsetType = UNSET


class TextChoice(Struct, frozen=True):
    """A choice of a completion, whole or chunk."""

    text: str
    index: int = 0
    logprobs: TextLogprobs | None = None
    finish_reason: FinishReason | None = None


Choice = ChatChunkChoice | ChatChoice | TextChoice


class CompletionObject(Struct, frozen=True, kw_only=True):
    """A chunk or a whole answer of either endpoint. system_fingerprint: null while nobody can tell the version."""

    id: str
    object: str
    created: int
    model: str
    choices: Sequence[Choice]
    system_fingerprint: str | None = None
    usage: UsageOut | UnsetType = UNSET


class ChatCompletion(CompletionObject, frozen=True, kw_only=True):
    """The answer to POST /v1/chat/completions."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]


class ChatCompletionChunk(CompletionObject, frozen=True, kw_only=True):
    """A piece of it."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChatChunkChoice]


class TextCompletion(CompletionObject, frozen=True, kw_only=True):
    """The answer to POST /v1/completions, or a piece of it."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[TextChoice]


class ErrorObject(Struct, frozen=True):
    """What is wrong, and what to do about it. param: the field at fault. Some codes bring figures besides."""

    message: str
    type: ErrorType
    param: str | None
    code: ErrorCode


class ErrorBody(Struct, frozen=True):
    """Every error, as a body or as an event."""

    error: ErrorObject


class ModelMeta(Struct, frozen=True, kw_only=True):
    """What is known of a model; sizes only once it has been loaded. n_ctx: most tokens of one request.

    Since its worker loaded it, and once it has worked: step_ms, the mean of an engine step; host_share, the part of
    the step that is not llama_decode. preemptions: how often a running sequence had to wait again. kind: what it is
    for: chat, embedding or rerank. n_embd: numbers of one vector of an embedding model.
    """

    state: str
    n_ctx: int | None
    n_ctx_train: int | None
    n_params: int | None
    size: int | None
    step_ms: float | None
    host_share: float | None
    preemptions: int
    kind: ModelKind | None = None
    n_embd: int | None = None


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
