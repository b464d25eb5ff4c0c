"""What the demo answers to the questions of the admin API. Pure: the same moment gives the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from appliance.errors import ApplianceError
from tui.demo.scenario import DemoModel, Scenario

_GIB: Final = 2**30
_DAY: Final = 86400.0
_TOTAL_GIB: Final = 79.6


class Answers:
    """start: as in World."""

    def __init__(self, scenario: Scenario, start: float) -> None:
        self._scenario = scenario
        self._start = start

    def to(self, path: str) -> Any:
        """The answer to `GET path`. Raises ApplianceError where there is no such route."""
        if path.startswith("/instances/") and path.endswith("/preflight"):
            return self._preflight(path.split("/")[2])
        answer = {
            "/keys": self._keys,
            "/certificates": self._certificates,
            "/allowlist": self._allowlist,
            "/allowlist/denied": self._denied,
            "/audit/records": self._audit,
            "/store": self._store,
            "/approvals": list,
        }.get(path)
        if answer is None:
            raise ApplianceError(f"the demo does not know {path}")
        return answer()

    def _at(self, seconds: float) -> str:
        return datetime.fromtimestamp(self._start + seconds, UTC).isoformat()

    def _keys(self) -> list[dict[str, object]]:
        if not self._scenario.clients:
            return []

        qwen = "qwen3-32b-q4_k_m"

        def key(
            kid: str,
            principal: str,
            state: str,
            until: float | None,
            used: float | None,
            label: str = "",
            *,
            models: Sequence[str] = (),
            minute: int | None = None,
            day: tuple[int, int, int] = (0, 0, 0),
        ) -> dict[str, object]:
            requests, refused, failed = day
            answered = requests - refused - failed
            return {
                "kid": kid,
                "principal": principal,
                "state": state,
                "label": label,
                "works_until": None if until is None else self._at(until),
                "last_used": None if used is None else self._at(-used),
                "successor": "k_99aa" if state == "retiring" else None,
                "models": list(models),
                "limits": {"requests_per_minute": minute, "tokens_per_day": None if minute is None else minute * 10**5},
                "last_day": {
                    "requests": requests,
                    "refused": refused,
                    "failed": failed,
                    "prompt_tokens": answered * 1831,
                    "completion_tokens": answered * 207,
                },
            }

        return [
            key(
                *("k_7f3a", "rag-indexer", "active", 88 * _DAY + 5, 3.0),
                models=("bge-m3", qwen),
                minute=60,
                day=(41_203, 38, 3),
            ),
            key(
                *("k_02bd", "财务部-报表", "expired", -5 * _DAY - 5, 275.0),
                models=(qwen,),
                minute=20,
                day=(240, 240, 0),
            ),
            key(
                *("k_9911", "ci-bot", "retiring", 6.2 * 3600, 130.0, "old"), models=(qwen,), minute=10, day=(311, 0, 0)
            ),
            key("k_99aa", "ci-bot", "active", 90 * _DAY + 5, 4.0, models=(qwen,), minute=10, day=(1904, 11, 0)),
            key("k_9c11", "ops-chat", "active", 41 * _DAY + 5, 1.0, day=(8212, 0, 14)),
            key("k_5e21", "客服机器人", "active", 120 * _DAY + 5, 9.0, models=(qwen,), day=(5530, 2, 1)),
            key("k_5e00", "unused-2024", "active", None, None),
        ]

    def _certificates(self) -> dict[str, object]:
        def certificate(subject: str, days: float, *names: str) -> dict[str, object]:
            return {
                "subject": subject,
                "not_after": self._at(days * _DAY),
                "fingerprint": "9c1e5ad0" * 8,
                "names": list(names),
            }

        days = self._scenario.server_days
        staged = certificate("CN=llm.corp.lan", 364, "llm.corp.lan", "10.20.0.2") if days < 14 else None
        return {
            "server": {
                "active": certificate("CN=llm.corp.lan", days, "llm.corp.lan", "10.20.0.2"),
                "staged": staged,
                "previous": None,
                "requested": False,
            },
            "authorities": [
                {
                    "name": "client",
                    "phase": "standby",
                    "current": certificate("CN=Corp Issuing CA 3", 772),
                    "successor": None,
                    "stragglers": [],
                },
                {
                    "name": "admin",
                    "phase": "standby",
                    "current": certificate("CN=Appliance Admin CA", 587),
                    "successor": None,
                    "stragglers": [],
                },
            ],
            "trusted": [],
            "issued": [
                {"kind": "client", "name": "rag-indexer", "not_after": self._at(81 * _DAY), "state": "valid"},
                {"kind": "client", "name": "old-laptop", "not_after": self._at(-3 * _DAY), "state": "expired"},
            ]
            if self._scenario.clients
            else [],
        }

    def _allowlist(self) -> dict[str, object]:
        if not self._scenario.clients:
            return {"entries": [], "staged": {"add": [], "remove": []}, "trial": None}
        removed = {"network": "10.20.99.5/32", "listener": "api", "comment": "old ci runner", "hits": 311}
        removed |= {"added_by": "li", "added_at": self._at(-493 * _DAY)}
        return {
            "entries": [
                {
                    "network": "10.20.0.0/16",
                    "listener": "api",
                    "comment": "office",
                    "origin": "allow add",
                    "added_by": "wang",
                    "added_at": self._at(-302 * _DAY),
                    "hits": 52_100,
                    "last_seen": self._at(-1),
                },
                {**removed, "origin": "allow add", "last_seen": self._at(-120)},
                {
                    "network": "172.16.8.0/24",
                    "listener": "admin",
                    "comment": "ops jump hosts",
                    "origin": "appliance.yaml",
                    "hits": 88,
                    "last_seen": self._at(0),
                },
                {
                    "network": "198.51.100.7/32",
                    "listener": "api",
                    "comment": "auditors",
                    "origin": "allow add",
                    "added_by": "wang",
                    "added_at": self._at(-33 * _DAY),
                    "until": self._at(-3 * _DAY),
                    "ended": True,
                    "hits": 0,
                    "last_seen": self._at(-4 * _DAY),
                },
            ],
            "staged": {
                "add": [
                    {
                        "network": "10.31.4.0/24",
                        "listener": "api",
                        "comment": "new RAG cluster",
                        "added_by": "wang",
                        "added_at": self._at(-60),
                        "until": self._at(29 * _DAY),
                    }
                ],
                "remove": [removed],
            },
            "trial": None,
            "fenced": [{"unit": "appliance.socket", "networks": ["10.31.4.0/24"]}],
        }

    def _denied(self) -> list[dict[str, object]]:
        if not self._scenario.clients:
            return []
        return [
            {"address": address, "listener": listener, "denied": denied, "last_seen": self._at(-ago)}
            for address, listener, denied, ago in (
                ("10.31.4.9", "api", 812, 2),
                ("192.168.1.20", "api", 3, 610),
                ("203.0.113.7", "admin", 1, 1805),
            )
        ]

    def _audit(self) -> list[dict[str, object]]:
        def record(
            back: int, ago: float, who: str, action: str, resource: str, outcome: str, **more: object
        ) -> dict[str, object]:
            number = 18_204 - back
            return {
                "seq": number,
                "ts": self._at(-ago),
                "action": action,
                "outcome": outcome,
                "prev": f"{number * 2654435761 % 2**64:016x}" * 4,
                "actor": {"principal": who, "role": "operator", "uid": 1004},
                "resource": resource,
                **more,
            }

        if not self._scenario.clients:
            return []
        staged = {"added": "10.31.4.0/24 (api)", "removed": "10.20.99.5/32 (api)"}
        load = {"before": "stopped", "after": "starting"}
        rotated = {"kid": "k_99aa", "principal": "ci-bot", "successor": "k_99aa", "grace_hours": "24"}
        return [
            record(0, 275, "wang", "allow.stage", "allowlist", "ok", details=staged),
            record(
                1,
                494,
                "wang",
                "model.load",
                "deepseek-r1-14b",
                "ok",
                milliseconds=11_200,
                reason="ticket INC-4411",
                details=load,
            ),
            record(2, 543, "li", "key.rotate", "k_9911", "ok", details=rotated),
            record(3, 1995, "wang", "model.load", "bge-m3", "ok", milliseconds=3_100),
            record(4, 1997, "wang", "login", "role=operator", "ok"),
            record(5, 3705, "-", "login", "CN=old-laptop", "deny", reason="certificate_expired"),
        ]

    def _store(self) -> dict[str, object]:
        def stored(model: DemoModel, verified: float, fault: str | None = None) -> dict[str, object]:
            return {
                "name": model.id,
                "bytes": int(model.weights * _GIB),
                "quantisation": "Q4_K_M",
                "imported": self._at(-40 * _DAY),
                "verified": self._at(-verified * _DAY),
                "fault": fault,
            }

        wrong = "model.gguf: its sha256 is 77ab12f0…, not 9c1e5ad0…; import it again"
        found = [
            stored(model, 3 + number, wrong if model.state == "failed" else None)
            for number, model in enumerate(self._scenario.models)
        ]
        return {"models": found, "quarantined": [], "jobs": []}

    def _preflight(self, name: str) -> dict[str, object]:
        model = next((one for one in self._scenario.models if one.id == name), None)
        if model is None:
            raise ApplianceError(f"there is no model {name!r}")
        loaded = [one for one in self._scenario.models if one.state in ("ready", "starting")]
        free = _TOTAL_GIB - self._scenario.other - sum(one.weights + one.kv for one in loaded)
        need = model.weights + model.kv + 0.6
        if need <= free:
            return {
                "fits": True,
                "host_bytes": int(0.6 * _GIB),
                "device_bytes": [int((model.weights + model.kv) * _GIB)],
                "layers": 65,
                "gpu_layers": 65,
                "tokens_per_second": 700 / model.weights,
            }
        freed, leave = 0.0, []
        for one in sorted(loaded, key=lambda one: one.id):
            if not one.pinned and not one.running and freed < need - free:
                freed += one.weights + one.kv
                leave.append(one.id)
        if freed >= need - free:
            return {"fits": True, "evict": leave, "device_bytes": [int(need * _GIB)], "layers": 65, "gpu_layers": 65}
        return {
            "fits": False,
            "reason": f"model {model.id!r} needs about {need:.1f} GiB (weights {model.weights:.1f} GiB, cache "
            f"{model.kv:.1f} GiB, computing 0.6 GiB); without idle models there is {free + freed:.1f} GiB on GPU 0, "
            "of which 1.0 GiB each stays free. It would fit with: unloading qwen3-32b-q4_k_m, which is pinned; or "
            "n_gpu_layers 41, at about 6 tok/s.",
        }
