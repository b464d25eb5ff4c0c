"""The evidence every request leaves: one frozen record, the one source for the log, metrics and decisions.

It never holds a prompt, an answer, a key or a header's value.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.errors import ErrorCode
from appliance.types import FinishReason

Outcome = Literal["ok", "refused", "failed", "client_gone"]
# What has stepped in for the model that was to answer: another one, an answer that was known, a text of the operator's.
Fallback = Literal["model", "repeat", "answer"]


class RequestRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request from its arrival to its end. Times are seconds; `time` is UTC since 1970 at arrival.

    outcome: `refused` before any work (4xx), `failed` by us (5xx or an error chunk), `client_gone` when the client
    left first. status: as committed to the client; 0 when it left before that. ttft_seconds: arrival to the first
    text, None without one. queue, prefill and decode are the worker's own figures; of several choices the first one's
    queue and prefill and the longest decode. finish_reason: `length` where any choice was cut. attempts: tries on a
    worker; more than one means that a worker died under an earlier one. alias: the name that was asked for, where it
    was one. fallback: what has answered in the place of `failed_models`, which were asked first. mirrored: a copy for a
    version on trial, whose answer nobody got.
    """

    id: str
    time: float
    address: str
    method: str
    path: str
    outcome: Outcome
    status: int
    total_seconds: float
    principal: str | None = None
    key_id: str | None = None
    model: str | None = None
    alias: str | None = None
    fallback: Fallback | None = None
    failed_models: tuple[str, ...] = ()
    mirrored: bool = False
    stream: bool | None = None
    error_code: ErrorCode | None = None
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    ttft_seconds: float | None = None
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    attempts: int = 1
