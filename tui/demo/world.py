"""A made-up appliance at any moment, from a seed: the same seed and second give the same figures. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from random import Random
from typing import Final

from msgspec.structs import replace

from appliance import __version__
from appliance.telemetry.request_record import AnswerEvidence, RequestRecord
from appliance.telemetry.snapshot import (
    AlertFigures,
    AuditFigures,
    CertificateFigures,
    DeviceShare,
    FailureFold,
    GpuFigures,
    HostFigures,
    LastAction,
    ListenerFigures,
    ModelFigures,
    Percentiles,
    ServingFigures,
    Snapshot,
)
from tui.demo.scenario import DemoClient, DemoModel, Scenario
from tui.source import Level, LogLine

GIB: Final = 2**30
GPU: Final = "GPU-1f3c2a77-55aa-4c1e-9d02-77be04c1a1d0"
_TOTAL: Final = 79.6
_EVIDENCE: Final = AnswerEvidence(sampling={"temperature": 0.2, "top_p": 0.9}, max_tokens=1024, seed=7)
_HOST_NAME: Final = "appliance-01"
_UP_SECONDS: Final = 12 * 86400 + 4 * 3600


class World:
    """start: the moment from which `up` counts; it and every moment is UTC seconds since 1970."""

    def __init__(self, seed: int, scenario: Scenario, start: float) -> None:
        self._seed = seed
        self._scenario = scenario
        self._start = start

    def snapshot(self, now: float) -> Snapshot:
        """Everything at that moment."""
        chance = self._chance("snapshot", now)
        scenario = self._scenario
        serving = self._serving(now)
        return Snapshot(
            time=now,
            host_name=_HOST_NAME,
            version=__version__,
            started=self._start - _UP_SECONDS,
            engine_build="b10519",
            ready=any(model.state == "ready" for model in scenario.models),
            host=HostFigures(
                cpu_busy=0.12 + 0.02 * chance.random(),
                cpu_count=64,
                memory_total_bytes=256 * GIB,
                memory_available_bytes=215 * GIB,
                swap_used_bytes=0,
                disk_free_bytes=812 * GIB,
                disk_total_bytes=1800 * GIB,
                receive_bytes_per_second=18e6,
                transmit_bytes_per_second=44e6,
                clock_synchronized=True,
            ),
            gpus=(self._gpu(chance),),
            gpus_expected=True,
            read_age_seconds=0.2,
            models=tuple(self._model(model, now) for model in scenario.models),
            serving=serving,
            failures=tuple(self._failures(now)),
            listeners=(ListenerFigures(name="api", open=14, accepted=182_204, denied_address=815),),
            certificates=tuple(self._certificates()),
            keys_active=6 if scenario.clients else 0,
            keys_ending=1 if scenario.clients else 0,
            audit=AuditFigures(records=18_204, written=18_204),
            alerts=tuple(
                AlertFigures(
                    name=alert.name,
                    what=alert.what,
                    severity=alert.severity,
                    state="firing",
                    since=self._start - alert.ago,
                    summary=alert.summary,
                )
                for alert in scenario.alerts
            ),
            last_action=LastAction(
                time=self._start - 1995,
                action="model.load",
                actor="wang",
                outcome="ok",
                resource="bge-m3",
                seconds=3.1,
            )
            if scenario.models
            else None,
        )

    def requests(self, second: int) -> Iterator[RequestRecord]:
        """Those that ended in that second, oldest first."""
        scenario = self._scenario
        if not scenario.clients:
            return
        chance = self._chance("requests", second)
        rate = scenario.requests_per_second
        for number in range(int(rate) + (chance.random() < rate % 1)):
            client = chance.choices(scenario.clients, [one.share for one in scenario.clients])[0]
            yield self._request(
                chance, client, second + (number + 0.5) / (rate + 1), f"req_{second % 65536:04x}{number:x}"
            )

    def logs(self) -> tuple[LogLine, ...]:
        """What the service said until the start, oldest first."""
        if not self._scenario.models:
            return ()

        def told(ago: float, level: Level, logger: str, message: str) -> LogLine:
            return LogLine(time=self._start - ago, level=level, logger=logger, message=message)

        return (
            told(11_655.0, "warning", "tls", f"server.crt ends in {self._scenario.server_days:.0f} days"),
            told(11_650.0, "info", "daemon", "ready"),
            told(1992.0, "info", "model", "bge-m3 is loaded, 3.1 s"),
            told(1990.0, "warning", "gpu", "nvml: no permission to list processes, totals only"),
            told(964.0, "error", "engine", "prompt of 33120 tokens, a slot has 32768: req_6e11"),
            *(told(515.0 - n, "warning", "auth", "key k_02bd has expired, 10.20.0.7") for n in range(240)),
        )

    def _chance(self, purpose: str, moment: float) -> Random:
        return Random(f"{self._seed}/{purpose}/{moment:.1f}")

    def _request(self, chance: Random, client: DemoClient, ended: float, id: str) -> RequestRecord:
        model = next((one for one in self._scenario.models if one.id == client.model), None)
        embeds = model is None or model.kind == "embedding"
        prompt = int(chance.lognormvariate(6.2 if embeds else 7.6, 0.6))
        wait = chance.random() * 0.02 * self._scenario.slowness**2
        record = RequestRecord(
            id=id,
            time=ended,
            address=client.address,
            method="POST",
            path="/v1/embeddings" if embeds else "/v1/chat/completions",
            outcome="ok",
            status=200,
            total_seconds=0.02 + wait,
            principal=client.principal,
            key_id=client.key_id,
            model=client.model,
            stream=not embeds,
            prompt_tokens=prompt,
            queue_seconds=wait,
        )
        if chance.random() < self._scenario.error_share:
            return _failed(record, chance)
        if embeds:
            return record
        completion = 1 + int(chance.expovariate(1 / 260))
        prefill = prompt / 5000 * self._scenario.slowness
        decode = completion * 0.022 * self._scenario.slowness
        return replace(
            record,
            time=ended - wait - prefill - decode,
            total_seconds=wait + prefill + decode,
            cached_tokens=prompt * 6 // 10,
            completion_tokens=completion,
            finish_reason="length" if completion > 900 else "stop",
            ttft_seconds=wait + prefill,
            prefill_seconds=prefill,
            decode_seconds=decode,
            system_fingerprint="fp_5be2c1d9",
            evidence=_EVIDENCE,
        )

    def _gpu(self, chance: Random) -> GpuFigures:
        loaded = [model for model in self._scenario.models if model.state in ("ready", "starting")]
        own = sum((model.weights + model.kv) * (model.progress or 1.0) for model in loaded)
        used = own + self._scenario.other
        busy = 0.9 + 0.06 * chance.random() if loaded else 0.0
        return GpuFigures(
            uuid=GPU,
            name="NVIDIA H100 80GB HBM3",
            total_bytes=int(_TOTAL * GIB),
            used_bytes=int(used * GIB),
            free_bytes=int((_TOTAL - used) * GIB),
            own_bytes=int(own * GIB),
            other_bytes=int(self._scenario.other * GIB),
            busy=busy,
            memory_busy=busy / 2,
            temperature_celsius=61,
            power_watts=412.0 if loaded else 71.0,
            power_limit_watts=700.0,
            sm_mhz=1755,
            pcie_receive_bytes_per_second=3.1e9,
            pcie_transmit_bytes_per_second=0.4e9,
            ecc_corrected=0,
            ecc_uncorrected=0,
        )

    def _model(self, model: DemoModel, now: float) -> ModelFigures:
        if model.loaded_ago is not None and now < self._start - model.loaded_ago:
            model = dataclasses.replace(model, state="stopped", loaded_ago=None)
        loaded = model.state in ("ready", "starting")
        part = model.progress or 1.0
        need = model.weights + model.kv
        free = (
            _TOTAL
            - self._scenario.other
            - sum(one.weights + one.kv for one in self._scenario.models if one.state in ("ready", "starting"))
        )
        return ModelFigures(
            id=model.id,
            state=model.state,
            progress=model.progress,
            slots=model.slots,
            running=model.running,
            waiting=model.waiting,
            queue_depth_max=64,
            kv_used=model.kv_used if model.state == "ready" else None,
            n_ctx=model.n_ctx,
            description=model.description,
            kind=model.kind,
            devices=(
                DeviceShare(
                    gpu=GPU, weights_bytes=int(model.weights * part * GIB), kv_bytes=int(model.kv * part * GIB)
                ),
            )
            if loaded
            else (),
            need_bytes=None if model.state == "ready" else int(need * GIB),
            fits=None if loaded else need <= free,
            serving=self._model_serving(model) if model.state == "ready" else None,
            load_seconds=model.weights * 1.3,
            idle_seconds=None if model.idle is None else model.idle + (now - self._start),
            pinned=model.pinned,
            system_fingerprint="fp_5be2c1d9" if loaded else None,
            reason=model.reason,
        )

    def _model_serving(self, model: DemoModel) -> ServingFigures:
        slow = self._scenario.slowness
        if not model.rate:
            return ServingFigures(seconds=300.0, requests=412, ok=412, ttft=Percentiles(p50=0.01, p95=0.02, p99=0.03))
        return ServingFigures(
            seconds=300.0,
            requests=608,
            ok=599,
            failed=2,
            refused=7,
            ttft=Percentiles(p50=0.31 * slow, p95=0.84 * slow, p99=1.9 * slow),
            completion_tokens_per_second=model.rate,
        )

    def _serving(self, now: float) -> ServingFigures:
        if not self._scenario.clients:
            return ServingFigures(seconds=300.0)

        def slow(of: str) -> float:
            """How much slower than usual: a little up and down, and now and then a lot."""
            chance = self._chance(f"slow {of}", now // 20)
            return self._scenario.slowness * (1 + 0.3 * chance.random() + (2.5 if chance.random() < 0.04 else 0.0))

        first, token, total, queue = slow("ttft"), slow("token"), slow("total"), slow("queue")
        return ServingFigures(
            seconds=300.0,
            requests=1020,
            ok=1000,
            refused=11,
            failed=4,
            client_gone=5,
            ttft=Percentiles(p50=0.28 * first, p95=0.75 * first, p99=1.7 * first),
            token=Percentiles(p50=0.02 * token, p95=0.028 * token, p99=0.043 * token),
            total=Percentiles(p50=5.5 * total, p95=12.7 * total, p99=27.6 * total),
            queue=Percentiles(p50=0.001 * queue**2, p95=0.09 * queue**2, p99=1.9 * queue),
            requests_per_second=self._scenario.requests_per_second,
            prompt_tokens_per_second=2140.0 / self._scenario.slowness,
            completion_tokens_per_second=121.0 / self._scenario.slowness,
            cached_share=0.61,
            finish={"stop": 910, "length": 60, "tool_calls": 20, "abort": 10},
            goodput=0.987 if self._scenario.slowness < 2 else 0.41,
        )

    def _failures(self, now: float) -> Iterator[FailureFold]:
        for failure in self._scenario.failures:
            client = next(one for one in self._scenario.clients if one.principal == failure.client)
            yield FailureFold(
                time=self._start - failure.ago,
                first=self._start - failure.ago - 600,
                count=failure.count,
                status=failure.status,
                error_code=failure.code,
                address=client.address,
                request_id=failure.request_id,
                model=failure.model,
                principal=client.principal,
                key_id=client.key_id,
            )

    def _certificates(self) -> Iterator[CertificateFigures]:
        days = 86400.0
        yield CertificateFigures(
            name="server.crt", role="server", not_after=self._start + self._scenario.server_days * days
        )
        yield CertificateFigures(name="client-ca", role="client_ca", not_after=self._start + 772 * days)
        yield CertificateFigures(name="admin-ca", role="admin_ca", not_after=self._start + 587 * days)


def _failed(record: RequestRecord, chance: Random) -> RequestRecord:
    kind = chance.randrange(4)
    if kind == 0:
        return replace(
            record,
            outcome="refused",
            status=401,
            error_code="invalid_api_key",
            model=None,
            prompt_tokens=0,
            total_seconds=0.0,
            queue_seconds=None,
        )
    if kind == 1:
        return replace(record, outcome="refused", status=429, error_code="too_many_requests", total_seconds=0.0)
    if kind == 2:
        return replace(
            record,
            outcome="failed",
            status=504,
            error_code="deadline_exceeded",
            completion_tokens=1200,
            ttft_seconds=0.9,
            time=record.time - 120.0,
            total_seconds=120.0,
        )
    return replace(
        record,
        outcome="refused",
        status=400,
        error_code="context_length_exceeded",
        prompt_tokens=33120,
        total_seconds=0.42,
    )
