"""The nouns that cross module and process boundaries: plain, frozen, strict.

Nothing here does I/O or knows a clock. Everything is a msgspec struct, so that the same declaration checks a
configuration file, travels on the worker socket and documents its own fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

# The engine ends with the first two; another server that serves a model for us with any.
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
KvMode = Literal["auto", "unified", "split"]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
FlashAttention = Literal["auto", "on", "off"]
# How a text's rows become one vector or score; `none`: they do not, the model generates text.
Pooling = Literal["none", "mean", "cls", "last", "rank"]
# What a model is for.
ModelKind = Literal["chat", "embedding", "rerank"]

# How a model writes calls of tools, and what it thinks before it answers: see appliance.chat.
ToolFormat = Literal[
    "none",
    "generic",
    "hermes",
    "qwen3_coder",
    "glm",
    "llama3",
    "pythonic",
    "mistral",
    "deepseek",
    "deepseek_dsml",
    "kimi",
    "minimax",
    "gemma",
    "json_list",
    "harmony",
]
ReasoningFormat = Literal["none", "think", "mistral", "seed", "command_r", "apertus", "gemma", "harmony"]

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"
ModelId = Annotated[str, Meta(pattern=MODEL_NAME)]

STOP_STRINGS_MAX = 16
PROMPT_TOKENS_MAX = 1_048_576
STOP_STRING_CHARS_MAX = 256
TOP_LOGPROBS_MAX = 20
CHOICE_TEXTS_MAX = 1024
POOLING_INPUTS_MAX = 2048

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopK = Annotated[int, Meta(ge=0, le=1_000_000)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
RepeatPenalty = Annotated[float, Meta(gt=0, le=10)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
LastN = Annotated[int, Meta(ge=0, le=65536)]
SequenceBreakers = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=40)], ...], Meta(max_length=16)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
LogitBias = Annotated[dict[TokenId, Annotated[float, Meta(ge=-1000, le=1000)]], Meta(max_length=1024)]
Priority = Annotated[int, Meta(ge=0, le=100)]


class SamplingParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen; llama.cpp's samplers under llama-server's names.

    Order: logit_bias and ignore_eos, penalties, dry, top_n_sigma, top_k, typical_p, top_p, min_p, xtc, temperature,
    then the draw. `mirostat` takes the place of dry, all filters and the draw (temperature stays, without dynatemp);
    adaptive_target that of the draw.

    temperature: 0 takes the most likely token (greedy); the filters after dry then have no effect.
    dynatemp_range, dynatemp_exponent: temperature moves by up to `range` with the entropy; 0 switches it off.
    top_k: how many tokens stay; 0 switches the filter off.
    top_p: smallest set of tokens whose probability reaches this; 1 switches it off.
    min_p: least probability relative to the best token; 0 switches it off.
    typical_p: locally typical tokens up to this probability; 1 switches it off.
    top_n_sigma: tokens within this many standard deviations of the best logit; 0 or less switches it off.
    xtc_probability, xtc_threshold: chance to drop all but the last of the tokens above the threshold; 0: off.
    min_keep: fewest tokens that top_p, min_p, typical_p and xtc leave.
    repeat_penalty: divides the logits of tokens seen in the last `repeat_last_n`; 1 switches it off.
    frequency_penalty, presence_penalty: OpenAI's additive penalties over the same window.
    repeat_last_n: tokens of prompt and answer that the penalties look back on.
    dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, dry_sequence_breakers: penalty on repeating a run
    of more than `allowed_length` tokens; multiplier 0 switches it off, last_n -1 looks back on everything, 0 on none.
    mirostat, mirostat_tau, mirostat_eta: version 1 or 2 holds the surprise at tau (learning rate eta); 0: off.
    adaptive_target, adaptive_decay: draws tokens near this probability; a negative target switches it off.
    logit_bias: added to the logits of these token ids; -100 and less forbids a token.
    seed: None draws one that nobody learns, so the API draws its own; the same seed gives the same answer where no two
    tokens are closer than the batch's rounding.
    ignore_eos: go on past the model's end token until max_tokens or a stop string.
    """

    temperature: Temperature = 0.8
    dynatemp_range: Annotated[float, Meta(ge=0, le=2)] = 0.0
    dynatemp_exponent: Annotated[float, Meta(ge=0, le=10)] = 1.0
    top_k: TopK = 40
    top_p: Probability = 0.95
    min_p: Probability = 0.05
    typical_p: Probability = 1.0
    top_n_sigma: Annotated[float, Meta(ge=-1, le=100)] = -1.0
    xtc_probability: Probability = 0.0
    xtc_threshold: Probability = 0.1
    min_keep: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    repeat_penalty: RepeatPenalty = 1.0
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repeat_last_n: LastN = 64
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] = 0.0
    dry_base: Annotated[float, Meta(ge=1, le=100)] = 1.75
    dry_allowed_length: Annotated[int, Meta(ge=0, le=65536)] = 2
    dry_penalty_last_n: Annotated[int, Meta(ge=-1, le=65536)] = -1
    dry_sequence_breakers: SequenceBreakers = ("\n", ":", '"', "*")
    mirostat: Literal[0, 1, 2] = 0
    mirostat_tau: Annotated[float, Meta(ge=0, le=100)] = 5.0
    mirostat_eta: Annotated[float, Meta(ge=0, le=10)] = 0.1
    adaptive_target: Annotated[float, Meta(ge=-1, le=1)] = -1.0
    adaptive_decay: Annotated[float, Meta(ge=0, le=0.99)] = 0.9
    logit_bias: LogitBias = {}
    seed: Seed | None = None
    ignore_eos: bool = False


class LogprobParams(Struct, frozen=True, kw_only=True):
    """What to report of each drawn token's probability.

    top: how many of the likeliest tokens beside the drawn one. processed: false reports the model's own distribution
    (softmax of its logits, before any sampler), true the one the token was drawn from. prompt_max: the tokens of the
    prompt, which may be so many, are reported too, by the model's own distribution, and so is every drawn one whether
    it has a text or not; 0: they are not.
    """

    top: Annotated[int, Meta(ge=0, le=TOP_LOGPROBS_MAX)] = 0
    processed: bool = False
    prompt_max: Annotated[int, Meta(ge=0)] = 0


class Constraint(Struct, frozen=True, kw_only=True):
    """What the text of an answer must be; the engine draws only tokens that keep to it.

    kind, text: `json_schema` a schema as JSON; `regex` a regular expression of Rust's syntax, for the whole answer;
    `choice` a JSON list of texts, one of which is the answer; `grammar` GBNF (begins at `root`), or llguidance's Lark
    (begins at `start`; `%json {...}` inside it is a schema, `rule[lazy]: /(?s:.*)<marker>/` free text up to a marker).
    param: the request's field that it came from, which refusals name.
    thinks: how the model's reasoning begins and ends, such as ("<think>", "</think>"); the worker says it where the
    chat template does. Then the answer may begin with reasoning, which the constraint leaves alone, and what follows
    its end and white space must keep to it; where the prompt ends with the first marker, the answer begins inside of
    the reasoning. None: from the first token on.
    """

    kind: Literal["json_schema", "regex", "choice", "grammar"]
    text: str
    param: str = "response_format"
    thinks: tuple[str, str] | None = None


class CallChoice(Struct, frozen=True, kw_only=True):
    """An answer must be calls, after what the model thinks: of the tools in its chat, with arguments of their schemas.

    only: of these alone; empty: of any. parallel: it may be several. param: the request's field, which refusals name.
    """

    only: tuple[str, ...] = ()
    parallel: bool = True
    param: str = "tool_choice"


class TokenLogprob(Struct, frozen=True, array_like=True):
    """Natural logarithm of a token's probability. piece: its bytes in the text. top: the likeliest, best first."""

    token: int
    piece: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


class ModelSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of models.yaml: a GGUF file and how to run it.

    path: absolute, or relative to models.yaml.
    n_gpu_layers: layers on GPUs, the output counted as the last one; `auto` puts there as many as have room. 0 leaves
    GPUs alone.
    tensor_split: proportions in which GPUs share the layers on GPUs, in their order; empty: by room.
    n_ctx: KV cells of the model in all, shared by its slots (as llama-server's -c).
    parallel: slots, that is sequences decoded in one step.
    kv: `unified` lets one request use all n_ctx cells; `split` gives each slot n_ctx / parallel of its own (both: no
    more than the context the model was trained for); `auto` splits where that is at least 8192 or the model's own
    context, and the model has no recurrent state.
    n_batch: most tokens of one step; n_ubatch: most tokens of one pass on the device.
    threads, threads_batch: `auto` is one thread per physical core.
    preempt_host_mib: host memory for the KV cells of preempted requests; what does not fit is computed again.
    preload: load at start; else the first request loads the model.
    pinned: never unloaded for want of room or of use.
    ttl: seconds without a request after which it is unloaded; by default it stays until its room is needed.
    group: of the models of one group only one is loaded at a time.
    tool_format, reasoning_format: how its answers are read; `auto` finds out from its chat template.
    pooling: in place of what the file says: it makes the model one for embeddings or rerank, and `none` one for text.
    embedding_cache_mib: host memory for vectors that are known already, by text and cache domain; 0: none is kept.
    """

    id: ModelId
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    aliases: Annotated[tuple[ModelId, ...], Meta(max_length=32)] = ()
    n_gpu_layers: Annotated[int, Meta(ge=0, le=10_000)] | Literal["auto"] = "auto"
    tensor_split: Annotated[tuple[Annotated[float, Meta(ge=0, le=10_000)], ...], Meta(max_length=16)] = ()
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
    preempt_host_mib: Annotated[int, Meta(ge=0, le=1_048_576)] = 1024
    sampling: SamplingParams = SamplingParams()
    preload: bool = False
    pinned: bool = False
    ttl: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    group: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] | None = None
    tool_format: ToolFormat | Literal["auto"] = "auto"
    reasoning_format: ReasoningFormat | Literal["auto"] = "auto"
    pooling: Pooling | None = None
    embedding_cache_mib: Annotated[int, Meta(ge=0, le=1_048_576)] = 0


class DeviceBytes(Struct, frozen=True, kw_only=True):
    """Memory of one GPU, by the driver's name for it."""

    uuid: str
    bytes: int


class EngineBuffer(Struct, frozen=True, kw_only=True):
    """Memory that llama.cpp says it has allocated. device: its word: CPU, CPU_Mapped, CPU_REPACK, CUDA0, CUDA_Host."""

    device: str
    kind: Literal["model", "KV", "RS", "compute", "output"]
    bytes: int


class MemoryUse(Struct, frozen=True, kw_only=True):
    """What a model takes, measured after its load.

    resident_bytes: of the worker; compute buffers that no prompt has filled yet are not in it,
    weights that are mapped and need not stay are. process_bytes: of the worker without what `buffers` account for.
    devices: by the driver, of this process; empty where it cannot be asked.
    """

    resident_bytes: int
    process_bytes: int
    buffers: tuple[EngineBuffer, ...] = ()
    devices: tuple[DeviceBytes, ...] = ()


class QuantizeOrder(Struct, frozen=True, kw_only=True):
    """One model file to be written with smaller weights.

    source: absolute, the first file of the model. target: absolute, an empty file to be overwritten. file_type: a
    number of llama.cpp's llama_ftype. requantize: whether weights that are quantised may be quantised again. threads:
    `auto` leaves a core to the models that are being served. bytes_max: the target never becomes larger.
    """

    source: str
    target: str
    file_type: Annotated[int, Meta(ge=0, le=1024)]
    requantize: bool
    threads: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"]
    bytes_max: int


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What a worker found when it loaded a model.

    n_ctx: most tokens one request may use, prompt and answer together: the figure a context_length_exceeded
    error reports. n_ctx_total: KV cells in all. size_bytes: tensor data in memory. memory: None from a worker that did
    not measure. engine_build: what computes, by name and version. chat_template_sha256: hex, of the template's UTF-8;
    None without one. embedding_length: numbers of one of its vectors. Of a model that does not generate, n_ctx is the
    longest text, and parallel the most texts of one step.
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
    engine_build: str
    chat_template_sha256: str | None = None
    memory: MemoryUse | None = None
    kind: ModelKind = "chat"
    pooling: Pooling = "none"
    embedding_length: int = 0


class HostReading(Struct, frozen=True, kw_only=True):
    """available_bytes: what can be had without swapping, within the limits of this service's control groups too.

    total_bytes: of the machine, or of the smallest of those limits. cpu_busy: 0 to 1, since the last reading, as are
    the rates: of all network interfaces but the loopback. None: it cannot be read here, or there is no earlier reading.
    """

    total_bytes: int
    available_bytes: int
    cpu_busy: float
    cpu_count: int | None = None
    swap_used_bytes: int | None = None
    receive_bytes_per_second: float | None = None
    transmit_bytes_per_second: float | None = None


class ProcessBytes(Struct, frozen=True, array_like=True):
    """What one process has of a GPU. bytes: None where the driver does not tell."""

    pid: int
    bytes: int | None


class GpuSensors(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the driver says of one GPU, or one MIG instance of one. None: it does not tell.

    reserved_bytes: by the driver, neither used nor free. busy, memory_busy: part of the last moments in which it
    computed, and in which it read or wrote its memory, 0 to 1. ecc_*: errors since the driver was loaded. throttle: why
    its clocks are held down, in words. xid_errors: faults that the driver has reported since the session with it began;
    newest_xid: the number of the last one. memory_unified: it has no memory of its own and computes in the host's.
    trouble: why this one cannot be read, while others can. processes_trouble: why its processes are not known.
    """

    uuid: str
    name: str
    total_bytes: int | None = None
    free_bytes: int | None = None
    used_bytes: int | None = None
    reserved_bytes: int | None = None
    busy: float | None = None
    memory_busy: float | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    sm_mhz: int | None = None
    pcie_receive_bytes_per_second: float | None = None
    pcie_transmit_bytes_per_second: float | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    throttle: tuple[str, ...] = ()
    xid_errors: int | None = None
    newest_xid: int | None = None
    memory_unified: bool = False
    trouble: str | None = None
    processes_trouble: str | None = None


class GpuReading(GpuSensors, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU that llama.cpp may use, in its order, or one MIG instance of one. instances: of a GPU in MIG mode."""

    processes: tuple[ProcessBytes, ...] = ()
    instances: tuple[GpuReading, ...] = ()


class HardwareReading(Struct, frozen=True, kw_only=True):
    """The machine at one moment. gpu_trouble: why GPUs cannot be read, where there is no driver or it fails."""

    host: HostReading
    gpus: tuple[GpuReading, ...] = ()
    gpu_trouble: str | None = None


class AnswerFormat(Struct, frozen=True, kw_only=True):
    """How the answer to one prompt is to be read. thinking: the prompt ends where the model already thinks."""

    tools: ToolFormat = "none"
    reasoning: ReasoningFormat = "none"
    thinking: bool = False


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
    """One turn as a chat template sees it: content is plain text, parts are already joined.

    reasoning_content: what an assistant thought, where the client kept it.
    """

    role: str
    content: str = ""
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning_content: str | None = None


class ChatPrompt(Struct, frozen=True, kw_only=True, tag="chat"):
    """Messages for the model's own template, which the worker renders.

    answer_room: where they are too long, the oldest turns are left out until so many tokens, or half of the context,
    are left for the answer; None: they are refused.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[dict[str, Any], ...] = ()
    template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    answer_room: Annotated[int, Meta(ge=1)] | None = None


class TextPrompt(Struct, frozen=True, kw_only=True, tag="text"):
    """A text that goes to the model as it is (`/v1/completions`)."""

    text: str


class TokenPrompt(Struct, frozen=True, kw_only=True, tag="tokens"):
    """Token ids that go to the model as they are."""

    tokens: tuple[int, ...]


class InfillPrompt(Struct, frozen=True, kw_only=True, tag="infill"):
    """What is between two texts is asked for, by the tokens that the model has for that."""

    prefix: str
    suffix: str


class Reading(Struct, frozen=True, kw_only=True):
    """How a prompt is to be looked at instead of answered.

    add_special: tokens that the model wants around a text are added, as for an answer. parse_special: special tokens
    written in a text are tokens. Neither is about chats, whose template decides.
    """

    add_special: bool = True
    parse_special: bool = True


AS_PROMPT = Reading()
# What goes on behind other tokens.
CONTINUED = Reading(add_special=False)


class EmbeddingPrompt(Struct, frozen=True, kw_only=True, tag="embedding"):
    """Texts, or token ids as they are, of each of which a vector is wanted.

    truncate: what is too long is cut; else it is refused. dimensions: the first so many numbers of each vector.
    """

    inputs: Annotated[tuple[str | tuple[int, ...], ...], Meta(min_length=1, max_length=POOLING_INPUTS_MAX)]
    truncate: bool = True
    dimensions: int | None = None


class RerankPrompt(Struct, frozen=True, kw_only=True, tag="rerank"):
    """A question and what may answer it. truncate: as for an EmbeddingPrompt."""

    query: str
    documents: Annotated[tuple[str, ...], Meta(min_length=1, max_length=POOLING_INPUTS_MAX)]
    truncate: bool = True


PoolingPrompt = EmbeddingPrompt | RerankPrompt
Prompt = ChatPrompt | TextPrompt | TokenPrompt | InfillPrompt | EmbeddingPrompt | RerankPrompt


class Request(Struct, frozen=True, kw_only=True):
    """One request after parsing; never changed afterwards.

    id: the `X-Request-Id`. model: the id of the ModelSpec, aliases resolved. max_tokens: None is up to the
    context. stop: at most STOP_STRINGS_MAX strings, none empty.
    flow: endpoint class, API key and `user`: requests of one principal take turns by it.
    priority: class of urgency, lower first. weight: the principal's share against others of its class.
    cache_domain: who may share KV cache with it. seconds_max: after this much time it ends with what it has.
    keep_seconds: how long the model shall stay loaded after its end; infinite, or None for the model's own `ttl`.
    reasoning_budget: most tokens that the model may think with.
    reading: the prompt is looked at, and nothing is computed. further: more prompts of the same request, each with
    choices of its own. constraint: what its answer must be. must_call: that it must be calls; never both.
    """

    id: str
    model: str
    principal: str
    prompt: Prompt
    cache_domain: str
    flow: str = ""
    priority: Priority = 0
    weight: float = 1.0
    sampling: SamplingParams = SamplingParams()
    logprobs: LogprobParams | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seconds_max: float = 570.0
    keep_seconds: float | None = None
    reasoning_budget: Annotated[int, Meta(ge=0)] | None = None
    reading: Reading | None = None
    further: tuple[Prompt, ...] = ()
    constraint: Constraint | None = None
    must_call: CallChoice | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one request; `cached_tokens` of the prompt were already in the KV cache.

    reasoning_tokens: of the answer, that the model thought with; None where that is not known.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int | None = None


class Timings(Struct, frozen=True, kw_only=True):
    """Where the worker's time went, in seconds: waiting for a slot, prompt, answer."""

    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
