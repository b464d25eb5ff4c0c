"""`appliance requests` and `appliance usage`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.state_dir import StateDir
from appliance.telemetry.request_record import RequestRecord
from tests.cli.conftest import Command
from tests.unit.telemetry.making import record, write

NOW = 1_763_600_000


def fill(state: StateDir) -> list[RequestRecord]:
    failed = record(2, time=NOW + 2.0, status=503, outcome="failed", error_code="queue_full", principal="ci\x1bbot")
    good = record(1, time=NOW + 1.0, principal="dify", model="qwen", ttft_seconds=0.25)
    write(state.store, good, failed)
    return [good, failed]


def test_the_newest_is_at_the_bottom(cli: Command, state: StateDir) -> None:
    fill(state)
    lines = cli("requests").ok().out.splitlines()
    assert lines[0].split() == ["TIME", "ST", "MODEL", "KEY", "ADDRESS", "IN", "OUT", "TTFT", "DUR", "ERROR", "ID"]
    figures = ["10", "5", "0.25", "1.00", "-", "r1"]
    assert lines[1].split() == ["2025-11-20", "00:53:21", "200", "qwen", "dify", "127.0.0.1", *figures]
    assert "\x1b" not in lines[2] and "queue_full" in lines[2]
    assert cli("requests", "--filter", "st:418").ok().out == "none\n"
    assert len(cli("requests", "-n", "1").ok().out.splitlines()) == 2


def test_json_is_whole_records(cli: Command, state: StateDir) -> None:
    assert msgspec.convert(fill(state), list[RequestRecord]) == msgspec.convert(
        cli("requests", "--json").json, list[RequestRecord]
    )


def test_a_wrong_filter_is_explained(cli: Command) -> None:
    said = cli("requests", "--filter", "modle:x")
    assert said.code == 1
    assert "filter: modle:x: modle is no field; did you mean model?" in said.err


def test_an_export_is_a_new_file_or_none(cli: Command, state: StateDir, tmp_path: Path) -> None:
    fill(state)
    out = tmp_path / "requests.csv"
    assert cli("requests", "export", "--filter", "outcome:ok", "--out", out).ok().out == f"{out}: written\n"
    assert out.read_bytes().startswith(b"\xef\xbb\xbftime,id,") and len(out.read_bytes().splitlines()) == 2
    assert out.stat().st_mode & 0o777 == 0o600
    assert "exists and would be lost" in cli("requests", "export", "--out", out).err
    assert cli("requests", "export", "--filter", "st>x", "--out", tmp_path / "b").code == 1
    cli("requests", "export", "--format", "jsonl", "--out", tmp_path / "c").ok()
    assert len((tmp_path / "c").read_bytes().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["c", "requests.csv"]


def test_usage_as_a_table_and_as_csv(cli: Command, state: StateDir) -> None:
    fill(state)
    said = cli("usage", "--since", "2025-11-01", "--until", "2025-12-01").ok()
    lines = said.out.splitlines()
    assert said.err == "2025-11-01 00:00 to 2025-12-01 00:00 UTC\n"
    assert lines[0].split()[:4] == ["PRINCIPAL", "MODEL", "REQUESTS", "REFUSED"]
    assert lines[-1].split() == ["all", "all", *["2", "0", "1", "0", "20", "8", "10", "0.40", "0.25", "0.25"]]
    rows = cli("usage", "--since", "2025-11-01", "--by", "model", "--csv").ok().out.splitlines()
    assert rows[0].lstrip("\ufeff").startswith("model,requests,refused,failed,")
    assert sorted(row.split(",")[0] for row in rows[1:]) == ["", "qwen"]
    assert cli("usage", "--since", "2025-11-01", "--json").json["total"][0]["requests"] == 2
    assert "exclude each other" in cli("usage", "--json", "--csv").err
