"""The protocol between the daemon and an engine worker: length-prefixed msgpack frames on one stream socket.

A frame is a 4-byte big-endian length and that many bytes of msgpack, one tagged struct. The daemon's first frame
is the worker's job, or `Resume`. The connection's end is the message that either side has gone.

    daemon → worker   Load · Resume · Add · Abort · Inspect · Quantize · WatchHardware
    worker → daemon   Loading · Loaded · LoadFailed · Step · Inspected · Hardware
                      Quantizing · Quantized · QuantizeFailed

A `Step` carries what one engine step (or the io thread's checks) produced, for any number of requests. For every
`Add` the worker sends exactly one `Finished` or `Failed`, and nothing for that request after it. While it has work
the worker sends a Step at least every HEARTBEAT_SECONDS, empty if need be: silence means it is wedged.
"""

from __future__ import annotations

import struct
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from appliance.errors import ErrorCode, MemoryLack, WireError
from appliance.types import (
    AnswerFormat,
    CallChoice,
    Constraint,
    FinishReason,
    HardwareReading,
    LogprobParams,
    ModelInfo,
    ModelSpec,
    Prompt,
    QuantizeOrder,
    Reading,
    SamplingParams,
    Timings,
    TokenLogprob,
    Usage,
)

FRAME_BYTES_MAX: Final = 128 * 2**20
HEARTBEAT_SECONDS: Final = 1.0
_LENGTH: Final = struct.Struct(">I")


class Load(Struct, frozen=True, kw_only=True, tag="load"):
    """Serve one model. `spec.path` is absolute.

    load_seconds_max: the worker ends itself when loading takes longer. step_seconds_max: the same for one step of
    up to n_ubatch tokens; a larger step gets proportionally more. template_seconds_max: for rendering one prompt.
    """

    spec: ModelSpec
    load_seconds_max: float
    step_seconds_max: float
    template_seconds_max: float


class Resume(Struct, frozen=True, kw_only=True, tag="resume"):
    """The first frame of another connection to a worker that has loaded its model: go on with it.

    The answer is its Loaded. No request of an earlier connection is told of on this one.
    """


class Inspect(Struct, frozen=True, kw_only=True, tag="inspect"):
    """Try a model that nobody has vouched for: load it, decode one token, render its chat template once.

    path: absolute. The limits are those of Load; the worker ends after its one Inspected or LoadFailed.
    """

    path: str
    load_seconds_max: float
    template_seconds_max: float


class Quantize(Struct, frozen=True, kw_only=True, tag="quantize"):
    """Write a model with smaller weights; the worker ends after its one Quantized or QuantizeFailed.

    stall_seconds_max: the worker ends itself where nothing is written for so long.
    """

    order: QuantizeOrder
    stall_seconds_max: float


class WatchHardware(Struct, frozen=True, kw_only=True, tag="watch_hardware"):
    """Send a Hardware at once and then every `interval_seconds`."""

    interval_seconds: float


class Add(Struct, frozen=True, kw_only=True, tag="add"):
    """Run one request. `number` is the daemon's name for it on this socket, never used twice.

    cache_domain: who may share KV cache with it. A prefix is reused only inside one domain, so that nobody can find
    out by time or usage what others asked.
    principal, flow, weight, priority: whose turn it is; see `engine.fairness`.
    seconds_max: from the arrival of this frame. Then a request that has text finishes with `length`, any other fails
    with `deadline_exceeded`.
    reasoning_budget: most tokens that the model may think with.
    reading: the answer is one PromptRead, and a Finished.
    constraint: what the answer must be; it finishes with `stop` only where it is.
    must_call: the same for calls, of a chat with tools; `Started.answer` says how they are written. Never both.
    """

    number: int
    principal: str
    cache_domain: str
    prompt: Prompt
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    flow: str = ""
    weight: float = 1.0
    priority: int = 0
    seconds_max: float = 86_400.0
    logprobs: LogprobParams | None = None
    reasoning_budget: int | None = None
    reading: Reading | None = None
    constraint: Constraint | None = None
    must_call: CallChoice | None = None


class Abort(Struct, frozen=True, kw_only=True, tag="abort"):
    """Stop a request: its slot is free at the next step. Unknown and ended numbers are ignored.

    An aborted request still gets its one `Failed`, or the `Finished` that was already on its way.
    """

    number: int


class Started(Struct, frozen=True, kw_only=True, tag="started"):
    """A request got its slot and its prompt enters the next step. answer: how its text is to be read, for a chat."""

    number: int
    prompt_tokens: int
    cached_tokens: int
    answer: AnswerFormat | None = None


class Delta(Struct, frozen=True, kw_only=True, tag="delta"):
    """New text of a request: whole characters only. `tokens` were sampled for it (0 when only held-back text).

    logprobs: one for each of these tokens, where the request asked for them. A token whose text is held back, or is
    part of a stop string, comes with the next text or not at all.
    """

    number: int
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class Scored(Struct, frozen=True, kw_only=True, tag="scored"):
    """The next tokens of a request's prompt, all of them in order and before its end, with their log probabilities.

    Pieces are as a token is written, control tokens too. Nothing comes before the first token: its number is 0.
    """

    number: int
    logprobs: tuple[TokenLogprob, ...]


class Pooled(Struct, frozen=True, kw_only=True, tag="pooled"):
    """The vector or score of one input of a request, each exactly once; they come in any order.

    values: little-endian 32-bit floats: a vector of length one, or a relevance of 0 to 1. tokens: of the input, after
    it was cut where `truncated` says so.
    """

    number: int
    index: int
    tokens: int
    truncated: bool
    values: bytes


class Finished(Struct, frozen=True, kw_only=True, tag="finished"):
    """A request is done. stopped_by: the stop string that ended it."""

    number: int
    reason: FinishReason
    usage: Usage
    timings: Timings
    stopped_by: str | None = None


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """A request cannot be done, or was aborted (`code` is then None)."""

    number: int
    code: ErrorCode | None
    message: str
    param: str | None = None
    details: dict[str, int | str] = {}


class PromptRead(Struct, frozen=True, kw_only=True, tag="prompt_read"):
    """What a prompt is to the model. text: of a chat as its template renders it, of tokens what they stand for.

    pieces: the bytes of each token, control tokens written out.
    """

    number: int
    text: str
    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...]


Event = Started | Delta | PromptRead | Scored | Pooled | Finished | Failed


class Loading(Struct, frozen=True, kw_only=True, tag="loading"):
    """Progress of a load, 0 to 1."""

    fraction: float


class Loaded(Struct, frozen=True, kw_only=True, tag="loaded"):
    """The model is ready for `Add`. spec: as its Load had it. pid: of the worker; it may be no child of the daemon."""

    info: ModelInfo
    spec: ModelSpec | None = None
    pid: int | None = None


class LoadFailed(Struct, frozen=True, kw_only=True, tag="load_failed"):
    """The model cannot be served; the worker ends after this frame. `reason` is a sentence for the operator.

    lack: where it was memory that it could not have.
    """

    reason: str
    lack: MemoryLack | None = None


class Inspected(Struct, frozen=True, kw_only=True, tag="inspected"):
    """The model could be used. info: as it was loaded for the trial, on the processor and with a small context."""

    info: ModelInfo


class Quantizing(Struct, frozen=True, kw_only=True, tag="quantizing"):
    """Sent whenever more of the new file is written, at most every half second. bytes_written: of it so far."""

    bytes_written: int


class Quantized(Struct, frozen=True, kw_only=True, tag="quantized"):
    """The new file is complete; nobody has tried it yet."""


class QuantizeFailed(Struct, frozen=True, kw_only=True, tag="quantize_failed"):
    """The new file cannot be made. `reason` is a sentence for the operator."""

    reason: str


class Hardware(Struct, frozen=True, kw_only=True, tag="hardware"):
    """What the machine has and what of it is free."""

    reading: HardwareReading


class Step(Struct, frozen=True, kw_only=True, tag="step"):
    """What happened since the last frame. running, waiting: sequences; kv_cells: cells of the cache in use.

    steps, device_seconds, host_seconds: since the load: engine steps, time inside llama_decode, and time of the engine
    thread outside of it while there was work. preemptions: how often a running sequence had to wait again.
    """

    events: tuple[Event, ...] = ()
    running: int = 0
    waiting: int = 0
    kv_cells: int = 0
    steps: int = 0
    device_seconds: float = 0.0
    host_seconds: float = 0.0
    preemptions: int = 0


ToWorker = Load | Resume | Add | Abort | Inspect | Quantize | WatchHardware
FromWorker = Loading | Loaded | LoadFailed | Step | Inspected | Quantizing | Quantized | QuantizeFailed | Hardware
Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()


def encode(message: ToWorker | FromWorker) -> bytes:
    """One frame, ready to send. Raises WireError when it would be larger than FRAME_BYTES_MAX."""
    body = _encoder.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise WireError(f"a frame of {len(body)} bytes is larger than the limit of {FRAME_BYTES_MAX}")
    return _LENGTH.pack(len(body)) + body


class FrameReader(Generic[Message]):
    """Turns received bytes back into messages of one direction. One reader per socket, one thread at a time."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Message]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """All messages that `data` completes. Raises WireError on anything that is no valid frame."""
        self._buffer += data
        messages = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > FRAME_BYTES_MAX:
                raise WireError(f"a frame announces {length} bytes, more than the limit of {FRAME_BYTES_MAX}")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(self._decode(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    def _decode(self, body: bytes) -> Message:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise WireError(f"a frame of {len(body)} bytes does not decode: {error}") from error


def worker_reader() -> FrameReader[ToWorker]:
    """Reads what the daemon sends; used by the worker."""
    return FrameReader(msgspec.msgpack.Decoder(ToWorker))


def daemon_reader() -> FrameReader[FromWorker]:
    """Reads what a worker sends; used by the daemon."""
    return FrameReader(msgspec.msgpack.Decoder(FromWorker))
