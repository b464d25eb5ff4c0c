"""Every error the product raises on purpose.

    ApplianceError
    ├── ConfigError     a configuration file or command-line value is refused; names file, line and key
    ├── StateError      something in the state directory is missing, damaged or held by another process
    │   ├── AuditUnavailable         nothing can be recorded now (audit.errors)
    │   └── GenerationMismatchError  the credentials changed meanwhile (security.credential_store)
    ├── GgufError       a file is no model that can be read; the message says what is wrong with it
    ├── WireError       a peer on the worker socket broke the protocol
    ├── LoadError       a model could not be loaded; the message is the reason an operator reads
    │   ├── LoadCrash                it took its worker down, or never came to an end
    │   └── OutOfMemory              llama.cpp could not allocate what it takes
    ├── ChangeRefused   an administrator's change cannot be made as it was asked for
    ├── DeliveryError   a receiver of alerts was not reached, or refused (alerting.delivery.receiver)
    ├── AdminError      what the admin API answered to a command (admin_client)
    └── RequestError    one request is refused or failed; becomes an OpenAI error envelope in api.envelope
        └── Refusal                  by access control, with the exact reason for the operator (security.refusal)

A RequestError carries an ErrorCode. The code decides the HTTP status and the OpenAI error type (`CODES`), so that
daemon, worker, log and client all speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from msgspec import Struct

ErrorCode = Literal[
    "invalid_request",
    "invalid_json",
    "unsupported_parameter",
    "context_length_exceeded",
    "template_error",
    "missing_api_key",
    "invalid_api_key",
    "certificate_rejected",
    "access_revoked",
    "address_not_allowed",
    "role_not_allowed",
    "model_not_found",
    "response_not_found",
    "route_not_found",
    "method_not_allowed",
    "body_timeout",
    "body_too_large",
    "unsupported_media_type",
    "too_many_requests",
    "queue_full",
    "kv_cache_full",
    "model_unavailable",
    "engine_crash",
    "shutting_down",
    "audit_unavailable",
    "store_unavailable",
    "deadline_exceeded",
    "internal_error",
]

ChangeCode = Literal[
    "not_found", "invalid", "conflict", "needs_force", "generation_mismatch", "needs_approval", "forbidden"
]
ErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]

# ErrorCode -> (HTTP status, OpenAI error type).
CODES: Mapping[ErrorCode, tuple[int, ErrorType]] = {
    "invalid_request": (400, "invalid_request_error"),
    "invalid_json": (400, "invalid_request_error"),
    "unsupported_parameter": (400, "invalid_request_error"),
    "context_length_exceeded": (400, "invalid_request_error"),
    "template_error": (400, "invalid_request_error"),
    "missing_api_key": (401, "authentication_error"),
    "invalid_api_key": (401, "authentication_error"),
    "certificate_rejected": (401, "authentication_error"),
    "access_revoked": (401, "authentication_error"),
    "address_not_allowed": (403, "permission_error"),
    "role_not_allowed": (403, "permission_error"),
    "model_not_found": (404, "invalid_request_error"),
    "response_not_found": (404, "invalid_request_error"),
    "route_not_found": (404, "invalid_request_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "body_timeout": (408, "invalid_request_error"),
    "body_too_large": (413, "invalid_request_error"),
    "unsupported_media_type": (415, "invalid_request_error"),
    "too_many_requests": (429, "rate_limit_error"),
    "queue_full": (503, "server_error"),
    "kv_cache_full": (503, "server_error"),
    "model_unavailable": (503, "server_error"),
    "engine_crash": (503, "server_error"),
    "shutting_down": (503, "server_error"),
    "audit_unavailable": (503, "server_error"),
    "store_unavailable": (503, "server_error"),
    "deadline_exceeded": (504, "server_error"),
    "internal_error": (500, "server_error"),
}
assert set(CODES) == set(get_args(ErrorCode))


class ApplianceError(Exception):
    """Base of everything above; `str()` is a sentence for the person who must act on it."""


class ConfigError(ApplianceError):
    """A configuration value is refused. `line` counts from 1; None where no single line is at fault."""

    def __init__(self, message: str, *, path: Path | str | None = None, line: int | None = None) -> None:
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(where + message)
        self.path = path
        self.line = line


class StateError(ApplianceError):
    """The state directory cannot be used as it is."""


class GgufError(ApplianceError):
    """A file is no GGUF, or a damaged or hostile one. The message goes on from the file's name: `it …`, `its …`."""


class WireError(ApplianceError):
    """Bytes on the worker socket are no valid frame."""


class LoadError(ApplianceError):
    """A model could not be loaded."""


class LoadCrash(LoadError):
    """A model took the worker down that tried it, or kept it busy beyond every deadline."""


class MemoryLack(Struct, frozen=True, kw_only=True):
    """What a load could not allocate. part: `cache` is what the cells take, `compute` what a pass takes.

    device: as llama.cpp calls it, CUDA0 or CPU; empty where it did not say. bytes: of the allocation that failed; 0:
    not known.
    """

    part: Literal["weights", "cache", "compute"]
    device: str = ""
    bytes: int = 0

    @property
    def on_host(self) -> bool:
        """Whether no GPU is short of memory."""
        return not self.device or self.device.startswith("CPU") or self.device.endswith("_Host")


class OutOfMemory(LoadError):
    """A model could not be loaded for want of memory; it may be with less."""

    def __init__(self, message: str, lack: MemoryLack) -> None:
        super().__init__(message)
        self.lack = lack


class ChangeRefused(ApplianceError):
    """An administrator's change is refused; nothing has changed.

    code: `not_found` the thing is not there; `invalid` the change makes no sense; `conflict` not in this state;
    `needs_force` it would do harm, and is done when asked for with force; `generation_mismatch` it was computed from an
    older state; `needs_approval` a second administrator must agree; `forbidden` not with this role.
    """

    def __init__(self, code: ChangeCode, message: str) -> None:
        super().__init__(message)
        self.code: ChangeCode = code
        self.message = message


class RequestError(ApplianceError):
    """One request is refused or failed.

    param: the request field at fault, as a client wrote it (`messages[0].content`), or None.
    retry_after: whole seconds for the Retry-After header, or None.
    details: further fields of the error envelope (numbers and short strings only).
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        details: Mapping[str, int | str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.details = dict(details or {})

    @property
    def status(self) -> int:
        """The HTTP status this error is answered with while none is committed."""
        return CODES[self.code][0]

    @property
    def type(self) -> ErrorType:
        """The OpenAI `error.type`."""
        return CODES[self.code][1]
