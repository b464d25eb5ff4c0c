"""The nouns that cross module and process boundaries: plain, frozen, strict.

Nothing here does I/O or knows a clock. Everything is a msgspec struct, so that the same declaration checks a
configuration file, travels on the worker socket and documents its own fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

FinishReason = Literal["stop", "length"]
KvMode = Literal["auto", "unified", "split"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
FlashAttention = Literal["auto", "on", "off"]

ModelId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]

STOP_STRINGS_MAX = 16
PROMPT_TOKENS_MAX = 1_048_576
STOP_STRING_CHARS_MAX = 256

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopK = Annotated[int, Meta(ge=0, le=1_000_000)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
RepeatPenalty = Annotated[float, Meta(gt=0, le=10)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class SamplingParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen. Order in the chain: penalties, top_k, top_p, min_p, temperature.

    temperature: 0 takes the most likely token (greedy); the other filters then have no effect.
    top_k: how many tokens stay; 0 switches the filter off.
    top_p: smallest set of tokens whose probability reaches this; 1 switches it off.
    min_p: least probability relative to the best token; 0 switches it off.
    repeat_penalty: divides the logits of tokens seen in the last `repeat_last_n`; 1 switches it off.
    frequency_penalty, presence_penalty: OpenAI's additive penalties over the same window.
    repeat_last_n: tokens of prompt and answer that the penalties look back on.
    seed: None draws one; the same seed gives the same answer.
    ignore_eos: go on past the model's end token until max_tokens or a stop string.
    """

    temperature: Temperature = 0.8
    top_k: TopK = 40
    top_p: Probability = 0.95
    min_p: Probability = 0.05
    repeat_penalty: RepeatPenalty = 1.0
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repeat_last_n: Annotated[int, Meta(ge=0, le=65536)] = 64
    seed: Seed | None = None
    ignore_eos: bool = False


class ModelSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of models.yaml: a GGUF file and how to run it.

    path: absolute, or relative to models.yaml.
    n_gpu_layers: `auto` puts every layer on the GPU where the build and the machine have one, else none.
    n_ctx: KV cells of the model in all, shared by its slots (as llama-server's -c).
    parallel: slots, that is sequences decoded in one step.
    kv: `unified` lets one request use all n_ctx cells; `split` gives each slot n_ctx / parallel of its own.
    n_batch: most tokens of one step; n_ubatch: most tokens of one pass on the device.
    threads, threads_batch: `auto` is one thread per physical core.
    preload: load at start; else the first request loads the model.
    """

    id: ModelId
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    aliases: Annotated[tuple[ModelId, ...], Meta(max_length=32)] = ()
    n_gpu_layers: Annotated[int, Meta(ge=0, le=10_000)] | Literal["auto"] = "auto"
    n_ctx: Annotated[int, Meta(ge=64, le=16_777_216)] = 8192
    parallel: Annotated[int, Meta(ge=1, le=256)] = 4
    kv: KvMode = "auto"
    n_batch: Annotated[int, Meta(ge=32, le=65536)] = 2048
    n_ubatch: Annotated[int, Meta(ge=32, le=65536)] = 512
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    flash_attn: FlashAttention | bool = "auto"
    threads: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] = "auto"
    threads_batch: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] = "auto"
    sampling: SamplingParams = SamplingParams()
    preload: bool = False


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What a worker found when it loaded a model.

    n_ctx: most tokens one request may use, prompt and answer together: the figure a context_length_exceeded
    error reports. n_ctx_total: KV cells in all. size_bytes: tensor data in memory.
    """

    architecture: str
    description: str
    parameters: int
    size_bytes: int
    n_vocab: int
    n_ctx: int
    n_ctx_total: int
    n_ctx_train: int
    parallel: int
    kv: Literal["unified", "split"]
    gpu_layers: int
    chat_template: bool
    load_seconds: float


class ToolFunction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The function a past assistant turn called; `arguments` is a JSON text."""

    name: str
    arguments: str = "{}"


class ToolCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of an assistant turn's `tool_calls`."""

    function: ToolFunction
    id: str | None = None
    type: str = "function"


class ChatMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn as a chat template sees it: content is plain text, parts are already joined."""

    role: str
    content: str = ""
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class ChatPrompt(Struct, frozen=True, kw_only=True, tag="chat"):
    """Messages for the model's own template, which the worker renders."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[dict[str, Any], ...] = ()
    template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)


class TextPrompt(Struct, frozen=True, kw_only=True, tag="text"):
    """A text that goes to the model as it is (`/v1/completions`)."""

    text: str


class TokenPrompt(Struct, frozen=True, kw_only=True, tag="tokens"):
    """Token ids that go to the model as they are."""

    tokens: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


class Request(Struct, frozen=True, kw_only=True):
    """One request after parsing; never changed afterwards.

    id: the `X-Request-Id`. model: the id of the ModelSpec, aliases resolved. max_tokens: None is up to the
    context. stop: at most STOP_STRINGS_MAX strings, none empty.
    """

    id: str
    model: str
    principal: str
    prompt: Prompt
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one request; `cached_tokens` of the prompt were already in the KV cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class Timings(Struct, frozen=True, kw_only=True):
    """Where the worker's time went, in seconds: waiting for a slot, prompt, answer."""

    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
