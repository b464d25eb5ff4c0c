"""docs/prometheus, docs/grafana: promtool takes them, they ask for what exists, the daemon finds the same alerts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from appliance.alerting.rules import RULES, runbook_of
from tests.prometheus.exported import exposition, series

HERE: Final = Path(__file__).parent
DOCS: Final = HERE.parents[1] / "docs"
ALERTS: Final = DOCS / "prometheus" / "appliance-alerts.yml"
COMPAT: Final = DOCS / "prometheus" / "appliance-compat.yml"
DASHBOARD: Final = DOCS / "grafana" / "appliance.json"
ROWS: Final = ("Service", "Latency", "Saturation", "Throughput", "GPU", "Keys", "Security")
# What Grafana itself brings.
PANELS: Final = {"row", "stat", "timeseries", "heatmap", "table"}
UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def promtool(*arguments: str | Path, given: bytes = b"") -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not here; the Debian package prometheus has it")
    done = subprocess.run((program, *arguments), input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules(ALERTS) if "alert" in rule}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> Iterator[str]:
    """Of the dashboard, with values for its variables."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m")


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", ALERTS, COMPAT)


def test_promtool_takes_the_metrics() -> None:
    promtool("check", "metrics", given=exposition())


def test_every_alert_fires_when_it_must() -> None:
    tested = yaml.safe_load((HERE / "appliance-alerts-test.yml").read_text())["tests"]
    fired = {each["alertname"] for test in tested for each in test.get("alert_rule_test", ()) if each["exp_alerts"]}
    assert fired == set(alerts())
    promtool("test", "rules", HERE / "appliance-alerts-test.yml")


def test_promtool_takes_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    asked = [{"record": f"asked:{number}", "expr": expr} for number, expr in enumerate(queries())]
    assert len(asked) > 40
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": asked}]}))
    promtool("check", "rules", path)


def test_the_daemon_finds_the_same_alerts() -> None:
    found = alerts()
    assert list(found) == [rule.name for rule in RULES]
    for rule in RULES:
        written = found[rule.name]
        assert written["labels"] == {"severity": rule.severity}, rule.name
        assert _seconds(written.get("for", "0s")) == rule.for_seconds, rule.name
        assert written["annotations"]["runbook"] == runbook_of(rule.name)
        assert set(written["annotations"]) == {"summary", "description", "runbook"}


def test_thresholds_are_those_of_the_daemon() -> None:
    from appliance.alerting import rules as ours

    found = {name: rule["expr"] for name, rule in alerts().items()}
    for name, words in (
        ("AppRestarting", f"> {ours.RESTARTS_MAX}"),
        ("HighTimeToFirstToken", f"> {ours.TTFT_SECONDS:g}"),
        ("HighErrorRatio", f"> {ours.ERROR_RATIO} "),
        ("HighErrorRatio", f">= {ours.ERRORS_MIN}"),
        ("QueueBacklog", f"> {ours.QUEUE_SHARE} *"),
        ("KvCacheNearlyFull", f"> {ours.KV_SHARE}"),
        ("GpuMemoryUnplanned", f"> {ours.UNPLANNED_BYTES / 1e9:g}e9"),
        ("GpuHot", f"> {ours.HOT_CELSIUS}"),
        ("TlsCertificateExpiresSoon", f"< {ours.SOON_SECONDS / 86400:g} * 86400"),
        ("TlsCertificateExpiresCritical", f"< {ours.CRITICAL_SECONDS / 86400:g} * 86400"),
        ("AuthFailureBurst", f"> {ours.AUTH_FAILURES_PER_SECOND:g}"),
        ("DiskAlmostFull", f"< {ours.DISK_BYTES / 1e9:g}e9"),
    ):
        assert words in found[name], name


def test_they_ask_for_what_is_exported() -> None:
    known = series()
    for source, exprs in (
        ("rules", [rule["expr"] for rule in (*rules(ALERTS), *rules(COMPAT))]),
        ("dashboard", [*queries(), json.dumps(dashboard()["templating"]), json.dumps(dashboard()["annotations"])]),
    ):
        # Names of recording rules have colons.
        asked = {name for expr in exprs for name in re.findall(r"(?<![\w:])appliance_\w+(?!:)\b", expr)}
        assert asked
        assert asked <= known, (source, asked - known)


def test_recorded_names_are_ours_or_of_those_whom_they_stand_for() -> None:
    recorded = [rule["record"] for rule in (*rules(ALERTS), *rules(COMPAT)) if "record" in rule]
    assert len(recorded) == len(set(recorded))
    assert {name.partition(":")[0] for name in recorded} == {"instance_model", "vllm", "llamacpp"}
    for part in ("bucket", "sum", "count"):
        assert f"vllm:time_to_first_token_seconds_{part}" in recorded


def test_the_dashboard_needs_nothing_but_prometheus() -> None:
    found = dashboard()
    assert tuple(panel["title"] for panel in found["panels"] if panel["type"] == "row") == ROWS
    assert {panel["type"] for panel in found["panels"]} <= PANELS
    assert [variable["name"] for variable in found["templating"]["list"]] == ["datasource", "instance", "model_name"]
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    assert "http://" not in DASHBOARD.read_text()
    assert "https://" not in DASHBOARD.read_text()
    for panel in found["panels"]:
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def _seconds(span: str) -> int:
    return int(span[:-1]) * UNITS[span[-1]]
