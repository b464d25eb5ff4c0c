"""What somebody did to the made-up appliance: its models, keys and allowlist after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote

from tui.demo.scenario import DemoModel, Scenario
from tui.source import ActRefused

_DEMO_KEY: Final = "apl_sk_demo_this-is-no-key-and-opens-nothing"


class Deeds:
    """scenario: as it is now. Belongs to the event loop."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._key_states: dict[str, str] = {}
        self._add: list[dict[str, Any]] = []
        self._remove: list[str] = []
        self._applied = False
        self._trial: str | None = None
        self._jobs: list[dict[str, Any]] = []
        self._removed: set[str] = set()

    def do(self, path: str, body: dict[str, Any], *, plan: bool) -> Any:
        """What the admin API would answer. Raises ActRefused."""
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["instances", name, verb]:
                return self._model(name, verb, plan)
            case ["models", "apply"]:
                return {"changes": []}
            case ["keys", kid, "revoke"]:
                if not plan:
                    self._key_states[kid] = "revoked"
                return {"kid": kid, "state": "revoked", "cut": 1}
            case ["keys", kid, "rotate"]:
                if not plan:
                    self._key_states[kid] = "retiring"
                return {"kid": "k_demo", "principal": "demo", "key": _DEMO_KEY, "predecessor": kid}
            case ["keys"]:
                return {"kid": "k_demo", "principal": body["principal"], "key": _DEMO_KEY}
            case ["store", name, verb]:
                return self._store(name, verb, plan)
            case ["allowlist", verb]:
                return self._allow(verb, body, plan)
            case ["alerts", _]:
                return {}
            case _:
                raise ActRefused("conflict", "the demo cannot do this; a running appliance can")

    def seen(self, path: str, answer: Any) -> Any:
        """An answer to a question, after what was done."""
        if path == "/keys":
            return [{**key, "state": self._key_states.get(key["kid"], key["state"])} for key in answer]
        if path == "/store":
            kept = [model for model in answer["models"] if model["name"] not in self._removed]
            return {**answer, "models": kept, "jobs": self._jobs}
        return self._allowlist(answer) if path == "/allowlist" else answer

    def _model(self, name: str, verb: str, plan: bool) -> dict[str, Any]:
        found = next((one for one in self.scenario.models if one.id == name), None)
        if found is None:
            raise ActRefused("not_found", f"there is no model {name!r}")
        after = found if plan else _after(found, verb)
        models = tuple(after if one.id == name else one for one in self.scenario.models)
        self.scenario = replace(self.scenario, models=models)
        return {
            "id": name,
            "state": after.state,
            "pinned": after.pinned,
            "running": after.running,
            "waiting": after.waiting,
        }

    def _store(self, name: str, verb: str, plan: bool) -> dict[str, Any]:
        if verb == "verify":
            job = {"id": f"j{len(self._jobs) + 1}", "kind": "verify", "name": name, "state": "done", "error": None}
            self._jobs.append({**job, "bytes_done": 1, "bytes_total": 1})
            return self._jobs[-1]
        found = next((one for one in self.scenario.models if one.id == name), None)
        if found is not None and found.state in ("ready", "starting"):
            raise ActRefused("conflict", f"{name!r} is loaded as {name}; take it out of service first")
        if not plan:
            self._removed.add(name)
        return {"name": name, "quarantined": False}

    def _allow(self, verb: str, body: dict[str, Any], plan: bool) -> dict[str, Any]:
        if verb == "confirm" and self._trial is None:
            raise ActRefused("conflict", "nothing is on trial")
        if not plan:
            match verb:
                case "stage":
                    self._add += map(_with_end, body.get("add", ()))
                    self._remove += body.get("remove", ())
                case "discard":
                    self._add, self._remove, self._applied = [], [], True
                case "apply":
                    until = datetime.now(UTC) + timedelta(seconds=body["confirm_seconds"])
                    self._applied, self._trial = True, until.isoformat()
                case "confirm" | "revert":
                    self._trial = None
        return {"staged": {"add": self._add, "remove": self._remove}, "cut": 0}

    def _allowlist(self, answer: dict[str, Any]) -> dict[str, Any]:
        gone = [*self._remove, *(one["network"] for one in answer["staged"]["remove"])]
        new = [*self._add, *answer["staged"]["add"]]
        if self._applied:
            kept = [one for one in answer["entries"] if one["network"] not in gone]
            return {
                "entries": [*kept, *new],
                "staged": {"add": [], "remove": []},
                "trial": None if self._trial is None else {"revert_at": self._trial},
            }
        removed = [one for one in answer["entries"] if one["network"] in gone]
        return {**answer, "staged": {"add": new, "remove": removed}}


def _with_end(entry: dict[str, Any]) -> dict[str, Any]:
    """With the moment where it was said how long."""
    if (seconds := entry.get("for_seconds")) is None:
        return entry
    return {**entry, "until": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()}


def _after(model: DemoModel, verb: str) -> DemoModel:
    match verb:
        case "load":
            return replace(model, state="ready", idle=0.0, reason=None)
        case "unload":
            return replace(model, state="stopped", running=0, waiting=0, idle=0.0)
        case _:
            return replace(model, pinned=verb == "pin")
