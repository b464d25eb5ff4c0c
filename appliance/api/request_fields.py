"""What both completion endpoints make of the fields they share."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Protocol, TypeVar

import msgspec
from aiohttp import web

from appliance.access_config import PrincipalSettings
from appliance.api.body import decode
from appliance.api.keys import DRAW_SEED, EVIDENCE, ROUTER, settings_of
from appliance.api.openai_schema import Choices, CompletionFields, DeadlineSeconds, StreamOptions
from appliance.api.structured_output import constraint_of
from appliance.errors import RequestError
from appliance.models.routes import Route
from appliance.types import LogprobParams, ModelSpec, Prompt, Request, SamplingParams
from appliance.validation import explain

NESTING_MAX: Final = 64
FREE_FORM_BYTES_MAX: Final = 2**20
T = TypeVar("T")
USER_CHARS_MAX: Final = 64
FORBID_BIAS: Final = -1000.0
# `1h30m`, `300s`, and a number alone, which is seconds.
_NUMBER: Final = r"(\d{1,9}(?:\.\d{1,9})?)"
_DURATION: Final = re.compile(rf"([-+]?)(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER})?", re.ASCII)
_SAMPLING_NAMES: Final = tuple(field.name for field in msgspec.structs.fields(SamplingParams))


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a request before it is known who answers it."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    user: str | None = None
    temperature: float | None = None
    deadline_seconds: DeadlineSeconds | None = None
    timeout: DeadlineSeconds | None = None

    @property
    def seconds_max(self) -> float:
        """How long the client wants to wait; infinite where it does not say."""
        return min(self.deadline_seconds or math.inf, self.timeout or math.inf)

    @property
    def include_usage(self) -> bool:
        """Did the client ask for the usage chunk?"""
        return bool(self.stream_options and self.stream_options.include_usage)


_asked: Final = msgspec.json.Decoder(Asked)


def asked_of(http: web.Request, body: bytes, whole: msgspec.json.Decoder[Any]) -> Asked:
    """What a body says of itself, noted in the request's evidence. Raises RequestError, as `decode`.

    whole: of the endpoint, which says best what is wrong with a body that does not say it.
    """
    try:
        asked = decode(body, _asked)
    except RequestError:
        decode(body, whole)
        raise
    http[EVIDENCE].stream = bool(asked.stream)
    return asked


def route_of(http: web.Request, name: str, user: str = "") -> Route:
    """Where a model's name leads, as far as the caller may know of it. Raises RequestError (model_not_found)."""
    draft, router = http[EVIDENCE], http.app[ROUTER]
    route = router.find(name, draft.principal or "", user, settings_of(http).models)
    if route is None:
        names = ", ".join(permitted_names(http)) or "none"
        raise RequestError(
            "model_not_found", f"the model {name[:128]!r} does not exist; known models: {names}", param="model"
        )
    draft.model = route.models[0]
    draft.alias = route.name if route.alias else None
    return route


def permitted_names(http: web.Request) -> list[str]:
    """The ids and aliases that the caller may use, in the order of models.yaml; without those of single models."""
    registry, allowed = http.app[ROUTER].registry, settings_of(http).models
    routes, principal = registry.routes, http[EVIDENCE].principal or ""
    names = (*(spec.id for spec in registry.specs()), *registry.file.aliases)
    return [name for name in names if routes.find(name, principal, allowed=allowed) is not None]


def request_of(
    http: web.Request,
    body: CompletionFields,
    spec: ModelSpec,
    *,
    prompt: Prompt,
    further: tuple[Prompt, ...] = (),
    max_tokens: int | None,
    logprobs: LogprobParams | None,
    seconds_max: float,
) -> Request:
    """The immutable request: the model's and the principal's settings with what the body may change on top."""
    return msgspec.structs.replace(
        plain_request(http, body, spec, prompt, seconds_max),
        further=further,
        sampling=seeded(sampling_of(body, spec.sampling), http.app[DRAW_SEED]),
        logprobs=logprobs,
        max_tokens=max_tokens,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        constraint=constraint_of(body),
    )


class SharedFields(Protocol):
    """What bodies of every endpoint may say of themselves."""

    @property
    def user(self) -> str | None: ...

    @property
    def priority(self) -> int | None: ...

    @property
    def keep_alive(self) -> float | str | None: ...

    @property
    def cache_salt(self) -> str | None: ...


def plain_request(
    http: web.Request, body: SharedFields, spec: ModelSpec, prompt: Prompt, seconds_max: float
) -> Request:
    """Who asks, whose turn it is and how long it may take; nothing of what the answer shall be."""
    draft, settings = http[EVIDENCE], settings_of(http)
    assert draft.principal is not None, "the middleware has run"
    return Request(
        id=draft.id,
        model=spec.id,
        principal=draft.principal,
        cache_domain=cache_domain(draft.principal, settings, body.cache_salt),
        # A client may step back behind others of its class, never ahead of them.
        priority=max(settings.priority, body.priority or 0),
        weight=settings.weight,
        flow=flow(http.path, draft.key_id or "", body.user or ""),
        prompt=prompt,
        seconds_max=seconds_max,
        keep_seconds=None if body.keep_alive is None else keep_seconds(body.keep_alive),
    )


def keep_seconds(keep_alive: float | str) -> float:
    """Ollama's `keep_alive`: seconds, or a duration as Go writes it; infinite where it is negative."""
    if isinstance(keep_alive, str):
        match = _DURATION.fullmatch(keep_alive)
        if match is None or not keep_alive.strip("-+"):
            raise RequestError(
                "invalid_request", f"keep_alive: {keep_alive!r} is no time such as 300, '5m' or -1", param="keep_alive"
            )
        sign, *parts = match.groups()
        seconds = sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1, 1), strict=True) if part)
        keep_alive = -1 if sign == "-" else seconds
    return math.inf if keep_alive < 0 else keep_alive


def sampling_of(body: CompletionFields, defaults: SamplingParams) -> SamplingParams:
    """The model's sampling defaults with what the body says on top."""
    said = {name: value for name in _SAMPLING_NAMES if (value := getattr(body, name)) is not None}
    if body.logit_bias is not None:
        said["logit_bias"] = {token: _bias(value) for token, value in body.logit_bias.items()}
    return msgspec.structs.replace(defaults, **said)


def seeded(sampling: SamplingParams, draw: Callable[[], int]) -> SamplingParams:
    """With a seed that is known, unless nothing is left to chance: who has it can have the same answer again."""
    if sampling.seed is not None or sampling.temperature == 0:
        return sampling
    return msgspec.structs.replace(sampling, seed=draw())


def _bias(value: float | bool) -> float:
    if value is True:
        raise RequestError("invalid_request", "logit_bias: expected a number or false, got true", param="logit_bias")
    return FORBID_BIAS if value is False else value


def cache_domain(principal: str, settings: PrincipalSettings, salt: str | None = None) -> str:
    """Who may share KV cache. A group can never be taken for a principal of the same name.

    salt: the request's own; it parts a domain, and never joins two.
    """
    domain = f"principal:{principal}" if settings.cache_group is None else f"group:{settings.cache_group}"
    return domain if salt is None else f"{domain}:{hashlib.sha256(salt.encode()).hexdigest()}"


def flow(path: str, key_id: str, user: str) -> str:
    """What takes turns inside one principal: endpoint, API key and the body's `user`, which has no bound of its own."""
    if len(user) > USER_CHARS_MAX:
        user = hashlib.sha256(user.encode()).hexdigest()
    return f"{path.removeprefix('/v1')}:{key_id}:{user}"


def refuse_unsupported(**said: object) -> None:
    """Refuses fields that would change the answer and that this version does not act on.

    Pass each field by name with a true value where the request asks for it.
    """
    for name, asked in said.items():
        if asked:
            raise RequestError(
                "unsupported_parameter", f"{name}: this version does not support it; leave it out", param=name
            )


def free_form(name: str, raw: msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T | None:
    """A field whose content is the template's business; None where it is absent or null.

    Bounded in size before it is decoded, and in depth and numbers after, because it travels on as msgpack.
    """
    if len(raw) > FREE_FORM_BYTES_MAX:
        raise RequestError(
            "invalid_request", f"{name}: more than {FREE_FORM_BYTES_MAX // 1024} KiB; send less", param=name
        )
    if bytes(raw) in (b"", b"null"):
        return None
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError as error:
        message, place = explain(error)
        where = f"{name}{place if place.startswith('[') or not place else '.' + place}"
        raise RequestError("invalid_request", f"{where}: {message}", param=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The body was decoded around it.
        raise RequestError("invalid_json", f"{name}: no valid JSON: {error}", param=name) from error
    level: list[Any] = [value]
    for _ in range(NESTING_MAX):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
        if any(isinstance(item, int) and not -(2**63) <= item < 2**63 for item in level):
            raise RequestError(
                "invalid_request",
                f"{name}: a number is out of range; send whole numbers of 64 bits at most",
                param=name,
            )
        if not level:
            return value
    raise RequestError("invalid_request", f"{name}: nested more than {NESTING_MAX} deep; send fewer levels", param=name)
