"""The evidence every request leaves: one frozen record, the one source for the log, metrics and decisions.

It never holds a prompt, an answer, a key or a header's value, nor what of a request's settings may be text.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from appliance.errors import CODES, ErrorCode
from appliance.types import FinishReason

Outcome = Literal["ok", "refused", "failed", "client_gone"]
# The kinds of errors that say so.
_ACCESS: Final = ("authentication_error", "permission_error")
# What has stepped in for the model that was to answer: another one, an answer that was known, a text of the operator's.
Fallback = Literal["model", "repeat", "answer"]


class AnswerEvidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the same prompt needs beside the model's version to get the same answer again, and who made it.

    sampling: what differs from SamplingParams' defaults; of a server elsewhere, what the client said. seed: None where
    nothing is left to chance, or where a server elsewhere drew it. Choice i of n has seed + i. withheld: settings that
    may hold text and are not kept: how many entries each has. file_sha256: hex, of the model's file; of one in several
    files, of their list as `sha256sum` writes it; None while it is not known. base_url, served_as: the server that
    answered, and what the model is called there.
    """

    seed: int | None = None
    sampling: dict[str, bool | int | float] = {}
    max_tokens: int | None = None
    n: int = 1
    withheld: dict[str, int] = {}
    file_sha256: str | None = None
    base_url: str | None = None
    served_as: str | None = None


class RequestRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request from its arrival to its end. Times are seconds; `time` is UTC since 1970 at arrival.

    outcome: `refused` before any work (4xx), `failed` by us (5xx or an error chunk), `client_gone` when the client
    left first. status: as committed to the client; 0 when it left before that. ttft_seconds: arrival to the first
    text, None without one. queue, prefill and decode are the worker's own figures; of several choices the first one's
    queue and prefill and the longest decode. finish_reason: `length` where any choice was cut. attempts: tries on a
    worker; more than one means that a worker died under an earlier one. alias: the name that was asked for, where it
    was one. fallback: what has answered in the place of `failed_models`, which were asked first. mirrored: a copy for a
    version on trial, whose answer nobody got. system_fingerprint: as in the answer. trace_id: of the trace that
    it is part of, hex. evidence: None where no worker or server was asked.
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
    system_fingerprint: str | None = None
    trace_id: str | None = None
    evidence: AnswerEvidence | None = None

    @property
    def access_refused(self) -> bool:
        """Whether it was refused for who sent it, or from where."""
        return self.outcome == "refused" and self.error_code is not None and CODES[self.error_code][1] in _ACCESS

    @property
    def token_seconds(self) -> float | None:
        """What one token took on average, None without a second one: the first belongs to the prompt."""
        if self.decode_seconds is None or self.completion_tokens < 2:
            return None
        return self.decode_seconds / (self.completion_tokens - 1)
