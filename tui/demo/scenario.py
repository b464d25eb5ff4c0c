"""What a made-up appliance is like: one table of figures for each scenario. Pure.

Times are seconds before `now`; sizes are GiB. Everything else follows from these in `world`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from appliance.errors import ErrorCode
from appliance.telemetry.snapshot import ModelState, Severity

ScenarioName = Literal["calm", "slow", "oom", "expired", "empty"]
SCENARIOS: Final[tuple[ScenarioName, ...]] = get_args(ScenarioName)


@dataclass(frozen=True, slots=True)
class DemoModel:
    """One model. rate: tokens per second of one answer. loaded_ago: since when it is loaded; None: from the start."""

    id: str
    state: ModelState
    description: str
    kind: str
    weights: float
    kv: float
    n_ctx: int
    slots: int
    running: int = 0
    waiting: int = 0
    kv_used: float = 0.0
    rate: float = 0.0
    pinned: bool = False
    idle: float | None = None
    progress: float | None = None
    reason: str | None = None
    loaded_ago: float | None = None


@dataclass(frozen=True, slots=True)
class DemoClient:
    """Who calls. share: of the requests."""

    principal: str
    key_id: str
    address: str
    model: str
    share: float


@dataclass(frozen=True, slots=True)
class DemoFailure:
    """Requests that fail again and again."""

    ago: float
    count: int
    status: int
    code: ErrorCode
    request_id: str
    client: str
    model: str | None


@dataclass(frozen=True, slots=True)
class DemoAlert:
    """An alert that is on."""

    name: str
    what: str
    severity: Severity
    ago: float
    summary: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it. requests_per_second: that end. server_days: until the server certificate ends."""

    models: tuple[DemoModel, ...]
    clients: tuple[DemoClient, ...]
    failures: tuple[DemoFailure, ...]
    alerts: tuple[DemoAlert, ...]
    requests_per_second: float
    slowness: float
    other: float
    server_days: float
    error_share: float


_QWEN: Final = DemoModel(
    "qwen3-32b-q4_k_m", "ready", "qwen3 32B Q4_K_M", "chat", 18.4, 32.0, 32768, 4, 3, 2, 0.44, 41.2, True
)
_BGE: Final = DemoModel(
    "bge-m3", "ready", "bert 568M F16", "embedding", 1.2, 0.1, 8192, 8, idle=12.0, loaded_ago=1992.0
)
_R1: Final = DemoModel("deepseek-r1-14b", "stopped", "qwen2 14B Q5_K_M", "chat", 9.8, 1.5, 16384, 1, idle=10_800.0)
_BIG: Final = DemoModel("qwen2.5-72b", "stopped", "qwen2 72B Q4_K_M", "chat", 44.5, 10.2, 32768, 1, idle=777_600.0)
_BROKEN: Final = DemoModel(
    "broken-7b",
    "failed",
    "llama 7B Q4_K_M",
    "chat",
    4.1,
    1.0,
    4096,
    1,
    reason="sha256 mismatch: expected 9c1e.. got 77ab..",
)
_CLIENTS: Final = (
    DemoClient("ops-chat", "k_9c11", "10.20.4.31", "qwen3-32b-q4_k_m", 0.3),
    DemoClient("rag-indexer", "k_7f3a", "10.20.1.9", "bge-m3", 0.4),
    DemoClient("ci-bot", "k_99aa", "10.20.3.14", "qwen3-32b-q4_k_m", 0.1),
    DemoClient("财务部-报表", "k_02bd", "10.20.0.7", "qwen3-32b-q4_k_m", 0.12),
    DemoClient("客服机器人", "k_5e21", "10.20.8.198", "qwen3-32b-q4_k_m", 0.08),
)
_CALM: Final = Scenario(
    models=(_QWEN, _BGE, _R1),
    clients=_CLIENTS,
    failures=(
        DemoFailure(13.0, 11, 503, "queue_full", "req_8f2a", "ci-bot", "qwen3-32b-q4_k_m"),
        DemoFailure(275.0, 240, 401, "invalid_api_key", "req_71c0", "财务部-报表", None),
        DemoFailure(964.0, 1, 400, "context_length_exceeded", "req_6e11", "rag-indexer", "qwen3-32b-q4_k_m"),
    ),
    alerts=(),
    requests_per_second=3.4,
    slowness=1.0,
    other=0.9,
    server_days=61.2,
    error_share=0.015,
)
_BY_NAME: Final[dict[ScenarioName, Scenario]] = {
    "calm": _CALM,
    "slow": replace(
        _CALM,
        models=(replace(_QWEN, running=4, waiting=41, kv_used=0.97, rate=9.7), _BGE, _R1, _BIG),
        alerts=(
            DemoAlert("QueueBacklog", "qwen3-32b-q4_k_m", "warning", 340.0, "41 of 64 requests wait for a slot"),
            DemoAlert("HighTimeToFirstToken", "qwen3-32b-q4_k_m", "warning", 290.0, "first text after 19.7 s (p95)"),
        ),
        slowness=8.0,
        error_share=0.06,
    ),
    "oom": replace(
        _CALM,
        models=(
            _QWEN,
            _BGE,
            replace(_R1, state="starting", progress=0.41, idle=None),
            _BIG,
            _BROKEN,
        ),
        alerts=(
            DemoAlert("GpuMemoryUnplanned", "GPU 0", "warning", 95.0, "other processes hold 21.4 GiB of GPU 0"),
            DemoAlert("ModelNotReady", "broken-7b", "critical", 4000.0, "failed: sha256 mismatch"),
        ),
        other=21.4,
        error_share=0.04,
    ),
    "expired": replace(
        _CALM,
        alerts=(
            DemoAlert("TlsCertificateExpiresCritical", "server.crt", "critical", 3600.0, "server.crt expires in 2d04h"),
            DemoAlert("AuthFailureBurst", "k_02bd", "warning", 275.0, "240 in 10 min"),
        ),
        server_days=2.17,
    ),
    "empty": replace(
        _CALM,
        models=(),
        clients=(),
        failures=(),
        requests_per_second=0.0,
        other=0.0,
        server_days=364.0,
        error_share=0.0,
    ),
}


def scenario_of(name: ScenarioName) -> Scenario:
    """The scenario of that name."""
    return _BY_NAME[name]
