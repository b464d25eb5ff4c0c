"""The two configuration files, parsed once into frozen structs.

`appliance.yaml` says how the daemon listens and where its limits are; every field has a default, so the file is
optional. `models.yaml` lists the models. Keys may be written in snake_case or kebab-case. Unknown keys, wrong types
and values out of range are a ConfigError that names the file, the line and, for a key, the nearest known one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from appliance.access_config import (
    MAIN_LISTENER,
    PRINCIPAL_NAME,
    Admin,
    ApiKeys,
    Audit,
    Bytes,
    Capture,
    Certificates,
    Count,
    JwtIssuer,
    KeyEncryption,
    Listener,
    PrincipalSettings,
    Responses,
    Seconds,
)
from appliance.alert_config import Alerts
from appliance.alias_spec import AliasSpec, ModelsFile
from appliance.types import MODEL_NAME, ModelSpec
from appliance.upstream_spec import ServedModel, UpstreamReplica, UpstreamSpec, base_url_fault
from appliance.validation import explain
from appliance.yaml_source import YamlSource


class ConnectionLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gate of one listener holds open, before and after the handshake.

    address_per_second and address_burst: new connections of one address, a token bucket; more are reset before TLS.
    """

    address_per_second: Annotated[float, Meta(gt=0, le=100_000)] = 100.0
    address_burst: Count = 200
    connections_max: Count = 1024
    connections_per_address_max: Count = 512
    handshakes_max: Count = 64
    handshake_seconds: Seconds = 5.0
    keepalive_seconds: Seconds = 75.0


class RequestLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request, one principal and one model may hold.

    body_seconds: for the whole body to arrive. queue_depth_max: requests outstanding per model, running and waiting.
    outstanding_per_principal_max: the same per principal and model. commit_stream_seconds, commit_blocking_seconds:
    how long an error can still become a real HTTP status. ping_seconds: silence on a committed answer before a
    keep-alive is sent. slow_client_seconds: a client that takes nothing for this long is dropped.
    request_seconds: after this a request ends with finish_reason `length`, or fails where it has no token yet.
    commit_pooling_seconds: the same of embeddings and rerank. limit_wait_seconds: how long their requests wait for a
    limit of their client and for room at their model before they are refused.
    breaker_failures: so many requests of a model that fail one after the other open its circuit breaker; 0: never.
    breaker_seconds: how long it then gets none, until a probe; twice as long after each probe that fails.
    """

    body_bytes_max: Bytes = 32 * 2**20
    body_seconds: Seconds = 30.0
    queue_depth_max: Count = 512
    outstanding_per_principal_max: Count = 256
    commit_stream_seconds: Seconds = 10.0
    commit_blocking_seconds: Seconds = 45.0
    commit_pooling_seconds: Seconds = 8.0
    limit_wait_seconds: Annotated[float, Meta(ge=0, le=3600)] = 40.0
    ping_seconds: Seconds = 10.0
    slow_client_seconds: Seconds = 60.0
    request_seconds: Seconds = 570.0
    breaker_failures: Annotated[int, Meta(ge=0, le=10_000)] = 5
    breaker_seconds: Seconds = 30.0


class WorkerLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a worker counts as stuck, and how its restarts back off.

    load_seconds_min and load_mib_per_second_min give the load deadline: the larger of the first and file size over
    the second. step_seconds_max: one step of up to n_ubatch tokens. silence_seconds_max: no frame while work is
    pending. probe_seconds: a worker that has served nobody for so long is asked for a token; 0: never.
    backoff_seconds_max: longest pause between restarts of a worker that keeps failing. quantize_stall_seconds: how
    long a worker that quantises may write nothing. spare: a worker without a model waits for the next load, which
    begins 0.3 s earlier so, and takes 40 MiB meanwhile.
    """

    load_seconds_min: Seconds = 120.0
    load_mib_per_second_min: Annotated[float, Meta(gt=0)] = 20.0
    step_seconds_max: Seconds = 60.0
    silence_seconds_max: Seconds = 90.0
    probe_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 300.0
    template_seconds_max: Seconds = 2.0
    backoff_seconds_max: Seconds = 300.0
    quantize_stall_seconds: Seconds = 600.0
    spare: bool = True


class Shutdown(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """drain_seconds: how long running requests may finish after SIGTERM."""

    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0


class RequestLog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long requests are kept: for retention_days, and only the newest ones that fit into bytes_max."""

    retention_days: Annotated[float, Meta(gt=0, le=3660)] = 90.0
    bytes_max: Annotated[int, Meta(ge=16 * 2**20, le=2**40)] = 2**30


class ServiceLog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the daemon says on standard error, from `level` on; json: an object a line, named as OpenTelemetry does.

    buffer_lines_max, buffer_bytes_max: what of it is kept in memory for `appliance logs`.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    buffer_lines_max: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    buffer_bytes_max: Annotated[int, Meta(ge=2**16, le=2**30)] = 8 * 2**20


class Tracing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where requests go as traces, OTLP in JSON: `endpoint`, a collector's URL, or `file`; without either, nowhere.

    sampled_ratio: which part of those whose sender has not decided it. key_file, ca, certificate, private_key,
    allow_plaintext: as of a replica in models.yaml. queue_max: requests that wait; further ones are left out.
    """

    endpoint: str | None = None
    file: str | None = None
    sampled_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    interval_seconds: Annotated[float, Meta(ge=0.1, le=300)] = 5.0
    queue_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 8192
    file_bytes_max: Bytes = 64 * 2**20
    key_file: str | None = None
    ca: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    allow_plaintext: bool = False

    def collector(self) -> UpstreamReplica | None:
        """How the endpoint is reached: as another server is that we ask."""
        if self.endpoint is None:
            return None
        names = ("key_file", "ca", "certificate", "private_key", "allow_plaintext")
        return UpstreamReplica(base_url=self.endpoint, **{name: getattr(self, name) for name in names})


class Telemetry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the figures of the appliance are measured against, and how much of them is kept.

    slo_ttft_seconds, slo_token_seconds: a good answer has its first text after so long, and then a token each so long.
    gpu_expected: this host has a GPU, and it is a fault where none can be read. recorder_bytes_max: what the flight
    recorder may take; the oldest seconds go first.
    """

    slo_ttft_seconds: Seconds = 2.0
    slo_token_seconds: Seconds = 0.1
    gpu_expected: bool = False
    recorder_bytes_max: Annotated[int, Meta(ge=16 * 2**20, le=2**40)] = 2**29


class Models(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Model files that are imported.

    signers: PEM files of the public Ed25519 keys whose signatures count, relative to appliance.yaml.
    require_signature: nothing that is not signed by one of them is imported. scrub_days: how often each imported model
    is verified; 0: never. scrub_mib_per_second: how fast it is read then.
    """

    signers: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    require_signature: bool = False
    scrub_days: Annotated[float, Meta(ge=0, le=3660)] = 7.0
    scrub_mib_per_second: Annotated[float, Meta(gt=0, le=100_000)] = 100.0


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """appliance.yaml. listeners and principals: by name; a principal that is not listed has the defaults."""

    listeners: Annotated[dict[str, Listener], Meta(min_length=1, max_length=16)] = msgspec.field(
        default_factory=lambda: {MAIN_LISTENER: Listener()}
    )
    connections: ConnectionLimits = ConnectionLimits()
    requests: RequestLimits = RequestLimits()
    worker: WorkerLimits = WorkerLimits()
    shutdown: Shutdown = Shutdown()
    request_log: RequestLog = RequestLog()
    service_log: ServiceLog = ServiceLog()
    tracing: Tracing = Tracing()
    telemetry: Telemetry = Telemetry()
    models: Models = Models()
    principals: Annotated[dict[str, PrincipalSettings], Meta(max_length=10_000)] = {}
    jwt: Annotated[tuple[JwtIssuer, ...], Meta(max_length=16)] = ()
    api_keys: ApiKeys = ApiKeys()
    certificates: Certificates = Certificates()
    key_encryption: KeyEncryption = KeyEncryption()
    audit: Audit = Audit()
    capture: Capture = Capture()
    responses: Responses = Responses()
    admin: Admin = Admin()
    alerts: Alerts = Alerts()


class _ModelsFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: tuple[dict[str, Any], ...]
    aliases: Annotated[dict[str, dict[str, Any]], Meta(max_length=1000)] = {}


# What `engine` in an entry of models.yaml says, and the entry it makes.
_ENGINES: Final[Mapping[str, type[ModelSpec] | type[UpstreamSpec]]] = {"llama": ModelSpec, "upstream": UpstreamSpec}


# Keys of earlier releases, and what does their work now.
_REPLACED: Final[Mapping[str, str]] = {
    "request_log.file_bytes_max": "request_log.bytes_max is for the whole log, request_log.retention_days for its age",
    "request_log.files_max": "request_log.bytes_max is for the whole log, request_log.retention_days for its age",
}

S = TypeVar("S", bound=Struct)
T = TypeVar("T")


def load_config(path: Path | None) -> Config:
    """Reads appliance.yaml; None gives the defaults. Raises ConfigError.

    The paths of the audit log, of the admin socket, of the models' signers and of alerts' receivers are absolute. Files
    of trust are read by ConfiguredAccess and `admin.model_signers`.
    """
    if path is None:
        return Config()
    source = YamlSource.read(path, verbatim=("principals",))
    _check_principals(source)
    config = _convert(source, source.data, Config)
    _check_tracing(source, config.tracing)
    return _located(config, path.resolve().parent)


def load_models(path: Path) -> ModelsFile:
    """Reads models.yaml: ids and aliases are unique, paths absolute, the files themselves not yet looked at.

    Raises ConfigError.
    """
    source = YamlSource.read(path, verbatim=("aliases", "aliases.*.versions"))
    file = _convert(source, source.data, _ModelsFile)
    if not file.models:
        raise source.error("the list is empty; name at least one model", "models")
    seen: dict[str, str] = {}
    specs = []
    for index, entry in enumerate(file.models):
        spec = _served_model(source, entry, f"models[{index}]", path.resolve().parent)
        for name in (spec.id, *spec.aliases):
            if name in seen:
                raise source.error(f"the name {name!r} is already taken by model {seen[name]!r}", f"models[{index}]")
            seen[name] = spec.id
        specs.append(spec)
    aliases = {}
    for name, entry in file.aliases.items():
        if name in seen:
            raise source.error(f"the name {name!r} is already taken by model {seen[name]!r}", f"aliases.{name}")
        aliases[name] = _alias(source, name, entry, [spec.id for spec in specs])
    return ModelsFile(models=tuple(specs), aliases=aliases)


def _alias(source: YamlSource, name: str, entry: Mapping[str, Any], ids: Sequence[str]) -> AliasSpec:
    where = f"aliases.{name}"
    if not re.fullmatch(MODEL_NAME, name):
        raise source.error(f"{name!r} is no name: letters, digits and . _ : / -, at most 128 of them", where)
    alias = _convert(source, entry, AliasSpec, where)
    for model in (*alias.versions, *alias.fallback.models):
        if model not in ids:
            near = difflib.get_close_matches(model, ids, n=1)
            known = f"did you mean {near[0]!r}?" if near else f"known ids: {', '.join(ids)}"
            raise source.error(f"{model!r} is no model's id; {known}", where)
    if not any(alias.versions.values()):
        raise source.error("every version has the weight 0; give one of them more", f"{where}.versions")
    return alias


def _served_model(source: YamlSource, entry: Mapping[str, Any], where: str, folder: Path) -> ServedModel:
    engine = entry.get("engine", "llama")
    struct = _ENGINES.get(engine) if isinstance(engine, str) else None
    if struct is None:
        raise source.error(f"engine: {engine!r} is none; known: {', '.join(_ENGINES)}", f"{where}.engine")
    spec = _convert(source, {key: value for key, value in entry.items() if key != "engine"}, struct, where)
    if isinstance(spec, ModelSpec):
        _check_model(source, where, spec)
        return msgspec.structs.replace(spec, path=str(folder / spec.path))
    for index, replica in enumerate(spec.replicas):
        _check_replica(source, f"{where}.replicas[{index}]", replica)
    files = ("key_file", "ca", "certificate", "private_key")
    return msgspec.structs.replace(spec, replicas=tuple(_absolute(one, folder, *files) for one in spec.replicas))


def _located(config: Config, folder: Path) -> Config:
    """Paths are relative to the file that has them, wherever a command is run."""
    admin, audit, siem = config.admin, config.audit, config.audit.siem
    if siem is not None:
        files = ("ca", "certificate", "key", *(("target",) if siem.format == "file" else ()))
        siem = _absolute(siem, folder, *files)
    audit = _absolute(msgspec.structs.replace(audit, siem=siem), folder, "anchor")
    signers = tuple(str(folder / path) for path in config.models.signers)
    models = msgspec.structs.replace(config.models, signers=signers)
    return msgspec.structs.replace(
        config,
        audit=audit,
        admin=_absolute(admin, folder, "socket"),
        models=models,
        alerts=_receivers(config.alerts, folder),
        tracing=_absolute(config.tracing, folder, "file", "key_file", "ca", "certificate", "private_key"),
    )


def _receivers(alerts: Alerts, folder: Path) -> Alerts:
    tls = ("ca", "certificate", "key")
    return msgspec.structs.replace(
        alerts,
        syslog=tuple(_absolute(one, folder, *tls) for one in alerts.syslog),
        mail=tuple(_absolute(one, folder, "ca", "password_file") for one in alerts.mail),
        webhooks=tuple(_absolute(one, folder, *tls, "secret_file") for one in alerts.webhooks),
    )


def _absolute(section: S, folder: Path, *names: str) -> S:
    given = {name: path for name in names if (path := getattr(section, name)) is not None}
    return msgspec.structs.replace(section, **{name: str(folder / path) for name, path in given.items()})


def _check_tracing(source: YamlSource, tracing: Tracing) -> None:
    """One place to go to, and none where the way gives anything away."""
    if tracing.endpoint is not None and tracing.file is not None:
        raise source.error("endpoint and file exclude each other; leave one of them out", "tracing.file")
    collector = tracing.collector()
    if collector is not None and (fault := base_url_fault(collector)) is not None:
        raise source.error(f"endpoint {fault}", "tracing.endpoint")
    if (tracing.certificate is None) != (tracing.private_key is None):
        raise source.error("certificate and private_key go together; write both or none", "tracing.certificate")


def _check_principals(source: YamlSource) -> None:
    """Entry by entry: of a mapping as a whole msgspec does not say which entry is wrong."""
    entries = source.data.get("principals")
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        where = f"principals.{name}"
        if not re.fullmatch(PRINCIPAL_NAME, name):
            raise source.error(f"{name!r} is no client's name: at most 63 of lower-case letters, digits and '-'", where)
        _convert(source, entry, PrincipalSettings, where)


def _check_model(source: YamlSource, where: str, spec: ModelSpec) -> None:
    """Conditions that span several fields."""
    if spec.n_ubatch > spec.n_batch:
        raise source.error(
            f"n_ubatch {spec.n_ubatch} is larger than n_batch {spec.n_batch}; lower n_ubatch",
            f"{where}.n_ubatch",
        )
    if spec.parallel > spec.n_batch:
        raise source.error(f"parallel {spec.parallel} needs n_batch of at least as many tokens", f"{where}.parallel")
    if spec.kv == "split" and spec.n_ctx // spec.parallel < 64:
        raise source.error(
            f"kv: split leaves each of {spec.parallel} slots {spec.n_ctx // spec.parallel} cells; raise n_ctx",
            f"{where}.n_ctx",
        )


def _check_replica(source: YamlSource, where: str, replica: UpstreamReplica) -> None:
    """Where it is must not give away what is sent there, and what we show needs both its halves."""
    if (fault := base_url_fault(replica)) is not None:
        raise source.error(f"base_url {fault}", f"{where}.base_url")
    if (replica.certificate is None) != (replica.private_key is None):
        raise source.error("certificate and private_key go together; write both or none", where)


def _convert(source: YamlSource, data: Any, struct: type[T], where: str = "") -> T:
    """The part of `source` at `where` as a struct."""
    _check_keys(source, data, struct, where)
    try:
        return msgspec.convert(data, struct, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        message, place = explain(error)
        place = ".".join(filter(None, (where, place)))
        raise source.error(f"{place + ': ' if place else ''}{message}", place) from error


def _check_keys(source: YamlSource, data: Any, struct: Any, path: str) -> None:
    """Refuses the first unknown key below `path`, with the nearest known one."""
    if get_origin(struct) is Annotated:
        struct = get_args(struct)[0]
    if not isinstance(data, Mapping):
        return
    if get_origin(struct) is dict:
        for key, value in data.items():
            _check_keys(source, value, get_args(struct)[1], f"{path}.{key}")
        return
    if not (isinstance(struct, type) and issubclass(struct, Struct)):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in data.items():
        inner = f"{path}.{key}" if path else str(key)
        if key not in fields:
            if (instead := _REPLACED.get(inner)) is not None:
                raise source.error(f"{source.written(inner)!r} is no key any more; {instead}", inner)
            near = difflib.get_close_matches(str(key), fields, n=1)
            known = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(fields))}"
            raise source.error(f"unknown key {source.written(inner)!r}; {known}", inner)
        kind = fields[key]
        if isinstance(value, list):
            kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
            for position, entry in enumerate(value):
                _check_keys(source, entry, next(iter(getattr(kind, "__args__", ())), None), f"{inner}[{position}]")
        else:
            _check_keys(source, value, kind, inner)
