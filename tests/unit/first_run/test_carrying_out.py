"""appliance.first_run.carrying_out, as far as it goes without root; tests/system carries it out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.demo import DEMO_MODEL_PATH
from appliance.errors import StateError
from appliance.first_run.answers import Answers, ServedFile
from appliance.first_run.carrying_out import put_models, seal_key
from appliance.first_run.files import DEMO_FILE

# systemd-creds encrypt --name=… - FILE
SEALS = '#!/bin/sh\nprintf "%s:" "$2" > "$4" && cat >> "$4"\n'
FAILS = '#!/bin/sh\nhead -c 1 > "$4"; echo no TPM >&2; exit 1\n'


def command(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "systemd-creds").write_text(text)
    (folder / "systemd-creds").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_key_is_sealed_once_and_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = tmp_path / "store/appliance-kek"
    command(tmp_path / "bin", FAILS, monkeypatch)
    with pytest.raises(StateError, match="no TPM"):
        seal_key(credential)
    assert not credential.exists()
    command(tmp_path / "bin", SEALS, monkeypatch)
    seal_key(credential)
    sealed = credential.read_bytes()
    name, _, key = sealed.partition(b":")
    assert (name, len(key)) == (b"--name=appliance-kek", 32)
    seal_key(credential)
    assert credential.read_bytes() == sealed
    assert [path.name for path in credential.parent.iterdir()] == ["appliance-kek"]


def test_the_demo_model_is_there_as_a_whole_and_through_no_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / DEMO_FILE).symlink_to(elsewhere)
    put_models(tmp_path / "models", Answers())
    assert not elsewhere.exists()
    target = tmp_path / "models" / DEMO_FILE
    assert target.read_bytes() == DEMO_MODEL_PATH.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o644
    # What an interruption or a bad disk has left of it is no model.
    target.write_bytes(b"half")
    put_models(tmp_path / "models", Answers())
    assert target.read_bytes() == DEMO_MODEL_PATH.read_bytes()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"chat\.gguf is not there"):
        put_models(tmp_path, Answers(models=(ServedFile(id="chat", file="chat.gguf"),)))
