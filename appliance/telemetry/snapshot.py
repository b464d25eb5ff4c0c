"""The whole appliance at one moment, in figures: what the dashboard, the metrics, the alerts and the recorder read.

Taking one reads what others have measured: it asks no driver, waits for no disk and wakes no worker. Sizes are bytes,
times seconds, moments UTC seconds since 1970, shares 0 to 1. None is what is not known, or not to be had here.
It holds names of models and principals, never a prompt, an answer, a key or an address's owner.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from appliance.types import GpuSensors

ModelState = Literal["stopped", "starting", "ready", "draining", "failed"]
Severity = Literal["warning", "critical"]
AlertState = Literal["pending", "firing", "acked", "resolved"]


class HostFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine. memory_*: within the limits of the service's control groups. disk_*: of the state directory.

    clock_synchronized: as the kernel's clock discipline says.
    """

    cpu_busy: float | None = None
    cpu_count: int | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_used_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    receive_bytes_per_second: float | None = None
    transmit_bytes_per_second: float | None = None
    clock_synchronized: bool | None = None


class DeviceShare(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model holds of one device, measured at its load; gpu: its uuid, None for the host's memory."""

    gpu: str | None = None
    weights_bytes: int = 0
    kv_bytes: int = 0
    compute_bytes: int = 0

    @property
    def bytes(self) -> int:
        """In all."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


class GpuFigures(GpuSensors, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU, or one MIG instance of one (`parent`: the uuid of that GPU).

    own_bytes, other_bytes: what our workers and what other processes hold; None where the driver does not tell. Of a
    GPU with `memory_unified` the sizes are the host's memory.
    """

    parent: str | None = None
    own_bytes: int | None = None
    other_bytes: int | None = None


class Percentiles(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one latency over some time, in seconds; None without a request that has it."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class ServingFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The requests that ended in the last `seconds`, of one model or of all.

    ttft: arrival to the first text. token: time of one token after the first. total: arrival to the end. queue: until
    the worker began. refused: 4xx, rate_limited among them; failed: by us. *_per_second: over `seconds`. cached_share:
    of prompt tokens. finish: answers by finish_reason. goodput: share of the answers within the objectives
    (`telemetry` of appliance.yaml), None without one; a failed request is none of them.
    """

    seconds: float
    requests: int = 0
    ok: int = 0
    refused: int = 0
    rate_limited: int = 0
    failed: int = 0
    client_gone: int = 0
    ttft: Percentiles = Percentiles()
    token: Percentiles = Percentiles()
    total: Percentiles = Percentiles()
    queue: Percentiles = Percentiles()
    requests_per_second: float = 0.0
    prompt_tokens_per_second: float = 0.0
    completion_tokens_per_second: float = 0.0
    cached_share: float | None = None
    finish: dict[str, int] = {}
    goodput: float | None = None


class ModelFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model. progress: of a load. slots: the most requests at once; running, waiting: now.

    kv_used: share of the KV cells in use. devices: what it holds. need_bytes, fits: what it would take while it is not
    loaded, and whether there is room for it now. load_seconds: of the newest load. idle_seconds, expires_seconds: as in
    InstanceSnapshot. reason: why it is not ready, or what it runs with for want of memory. base_urls: of the servers
    elsewhere that serve it, for `engine: upstream`.
    """

    id: str
    state: ModelState
    aliases: tuple[str, ...] = ()
    progress: float | None = None
    slots: int | None = None
    running: int = 0
    waiting: int = 0
    queue_depth_max: int | None = None
    kv_used: float | None = None
    n_ctx: int | None = None
    description: str | None = None
    kind: str | None = None
    devices: tuple[DeviceShare, ...] = ()
    gpu_layers: int | None = None
    need_bytes: int | None = None
    fits: bool | None = None
    serving: ServingFigures | None = None
    load_seconds: float | None = None
    idle_seconds: float | None = None
    expires_seconds: float | None = None
    pinned: bool = False
    restarts: int = 0
    preemptions: int = 0
    system_fingerprint: str | None = None
    reason: str | None = None
    base_urls: tuple[str, ...] = ()


class FailureFold(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests that failed or were refused for one reason: of one principal (or address), model and error.

    time: of the newest; request_id: its id. count: since `first`.
    """

    time: float
    first: float
    count: int
    status: int
    error_code: str
    address: str
    request_id: str
    model: str | None = None
    principal: str | None = None
    key_id: str | None = None


class ListenerFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One listener of the API: connections now, and totals since the start."""

    name: str
    open: int = 0
    in_handshake: int = 0
    accepted: int = 0
    denied_address: int = 0
    denied_rate: int = 0
    denied_cap: int = 0
    handshake_failed: int = 0


class CertificateFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a certificate or key ends. role: what it is for."""

    name: str
    role: Literal["server", "server_ca", "client_ca", "admin_ca", "client", "admin", "api_key"]
    not_after: float


class AllowEntryFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry of the allowlist that ends within a day. addresses: of the last 24 hours, whom no other one lets in."""

    name: str
    until: float
    addresses: int = 0


class AuditFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The audit log. records: of the chain so far. trouble: empty while it is well."""

    records: int = 0
    written: int = 0
    lost: int = 0
    failures: int = 0
    trouble: tuple[str, ...] = ()

    @property
    def write_errors(self) -> int:
        """Commits that failed, and records that were lost."""
        return self.failures + self.lost


class AlertFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One alert that is not over, or was lately. name: as in the Prometheus rules. what: which model, GPU or file.

    since: of its present state. summary: one sentence with the figure. acked_by, note: who attends to it, and how.
    """

    name: str
    what: str
    severity: Severity
    state: AlertState
    since: float
    summary: str
    acked_by: str | None = None
    note: str | None = None

    @property
    def on(self) -> bool:
        """Whether it has fired and is not over."""
        return self.state in ("firing", "acked")


class AlertFigures(AlertFacts, frozen=True, kw_only=True, omit_defaults=True):
    """As observers see it. silenced_until: nobody is told until then."""

    silenced_until: float | None = None


class LastAction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an administrator, or the appliance by itself, did last. outcome: as in the audit log."""

    time: float
    action: str
    actor: str
    outcome: str
    resource: str | None = None
    seconds: float | None = None


class Snapshot(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything at one moment.

    host_name: of the machine. gpu_trouble: why no GPU can be read. gpus_expected: appliance.yaml says that one is here.
    failures: newest first. draining: new requests are refused. degraded, notes: as `GET /status` has them.
    read_age_seconds: since the machine was read; a reading that is old is shown as such.
    auth_failures: requests since the start that were refused for who sent them, or from where.
    """

    time: float
    host_name: str
    version: str
    started: float
    engine_build: str | None = None
    ready: bool = False
    draining: bool = False
    host: HostFigures = HostFigures()
    gpus: tuple[GpuFigures, ...] = ()
    gpu_trouble: str | None = None
    gpus_expected: bool = False
    read_age_seconds: float | None = None
    models: tuple[ModelFigures, ...] = ()
    serving: ServingFigures = ServingFigures(seconds=300.0)
    failures: tuple[FailureFold, ...] = ()
    listeners: tuple[ListenerFigures, ...] = ()
    certificates: tuple[CertificateFigures, ...] = ()
    allow_ending: tuple[AllowEntryFigures, ...] = ()
    keys_active: int = 0
    keys_ending: int = 0
    auth_failures: int | None = None
    audit: AuditFigures = AuditFigures()
    alerts: tuple[AlertFigures, ...] = ()
    last_action: LastAction | None = None
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def unplanned_bytes(self, gpu: GpuFigures) -> int | None:
        """What is in use on a GPU beyond what loaded models account for; None where that cannot be told.

        Of a GPU that is cut into instances, each of them is asked instead.
        """
        cut = any(each.parent == gpu.uuid for each in self.gpus)
        if gpu.used_bytes is None or gpu.memory_unified or cut:
            return None
        planned = sum(share.bytes for model in self.models for share in model.devices if share.gpu == gpu.uuid)
        return max(0, gpu.used_bytes - planned)
