"""`appliance diagnose bundle` without a daemon: what is in it, and that no planted secret is."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from appliance.cli import diagnose
from appliance.state_dir import StateDir
from tests.cli.conftest import Command
from tests.unit.telemetry.making import record, write

PLANTED = "Hunter2Hunter2Hunter2"
PEM = f"-----BEGIN PRIVATE KEY-----\n{PLANTED}\n-----END PRIVATE KEY-----\n"


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        members = [one for one in archive.getmembers() if one.isfile()]
        texts = {one.name.partition("/")[2]: archive.extractfile(one) for one in members}
        return {name: file.read() for name, file in texts.items() if file is not None}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: StateDir) -> Path:
    """An appliance.yaml with secrets where none belongs; so have the journal, the environment and the requests."""
    config = tmp_path / "appliance.yaml"
    config.write_text(f"# password {PLANTED}\nlisteners: {{api: {{port: 0}}}} # {PLANTED}\n")
    (tmp_path / "models.yaml").write_text(f"models: [{{id: m, path: none.gguf}}] # {PLANTED}\n")
    write(state.store, record(1, status=500, outcome="failed", path=f"/v1/apl_sk_abcdefghijkl_{PLANTED}"))
    monkeypatch.setenv("SOME_PASSWORD", PLANTED)
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\ncat <<'X'\n{PEM}curl -H 'Authorization: Bearer {PLANTED}'\nline\x1b[31m\nX\n")
    program.chmod(0o755)
    show = tmp_path / "systemctl"
    show.write_text(f"#!/bin/sh\necho Id=appliance.service\necho Environment=A={PLANTED}\n")
    show.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return config


def test_a_bundle_has_what_helps_and_no_secret(cli: Command, state: StateDir, planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.tar.gz"
    said = cli("diagnose", "bundle", "--out", out, "--config", planted).ok()
    assert hashlib.sha256(out.read_bytes()).hexdigest() in said.out
    files = unpacked(out)
    assert {"versions.json", "doctor.json", "status.json", "configuration.json", "failed_requests.json"} <= set(files)
    assert b"line\\x1b[31m" in files["journal.txt"] and b"Id=appliance" in files["systemd_show.txt"]
    assert b'"port": 0' in files["configuration.json"] and b"none.gguf" in files["models_configuration.json"]
    assert b'"r1"' in files["failed_requests.json"]
    for name, text in files.items():
        assert PLANTED.encode() not in text, name
        assert b"PRIVATE KEY-----" not in text, name
    assert out.stat().st_mode & 0o777 == 0o600
    for line in files["MANIFEST.sha256"].decode().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256(files[name]).hexdigest() == digest


def test_a_file_that_is_refused_is_there_without_its_comments(cli: Command, planted: Path, tmp_path: Path) -> None:
    planted.write_text(f"listenres: {{}} # {PLANTED}\npassword: {PLANTED}\n")
    out = tmp_path / "d.tar.gz"
    cli("diagnose", "bundle", "--out", out, "--config", planted).ok()
    files = unpacked(out)
    assert b"did you mean 'listeners'" in files["configuration.json"]
    assert b"listenres" in files["configuration.json"]
    assert all(PLANTED.encode() not in text for text in files.values())


def test_of_an_appliance_elsewhere_this_host_says_nothing(
    command: Command, state: StateDir, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_ADMIN_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("APPLIANCE_ADMIN_BUNDLE", str(state.clients / "none"))
    out = tmp_path / "d.tar.gz"
    command("diagnose", "bundle", "--out", out, "--state-dir", state.path, "--config", planted).ok()
    assert set(unpacked(out)) == {"MANIFEST.sha256", "status.json", "versions.json"}


def test_nothing_is_overwritten(cli: Command, tmp_path: Path) -> None:
    out = tmp_path / "d.tar.gz"
    out.write_text("mine")
    assert "exists and would be lost" in cli("diagnose", "bundle", "--out", out).err
    assert out.read_text() == "mine"


def test_a_program_that_is_not_there_leaves_no_file() -> None:
    assert diagnose._said(("no-such-program-at-all",)) is None
