"""`appliance models`, without a daemon: real files, and real workers where something is imported."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
import yaml

from appliance.cli.layout import amount, size
from appliance.state_dir import StateDir
from tests.cli.conftest import Command
from tests.models.hostile import build_crashing
from tests.models.random_weights import build_random
from tests.unit.model_store.conftest import small_model


def key_pair(folder: Path) -> tuple[Path, Path]:
    """Made as the documentation says."""
    private, public = folder / "model.key", folder / "release.pem"
    subprocess.run(("openssl", "genpkey", "-algorithm", "ed25519", "-out", private), check=True, capture_output=True)
    subprocess.run(("openssl", "pkey", "-in", private, "-pubout", "-out", public), check=True, capture_output=True)
    return private, public


@pytest.mark.slow
def test_from_the_connected_side_to_models_yaml(
    cli: Command, command: Command, state: StateDir, recite_gguf: Path, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path)
    config, packed = tmp_path / "appliance.yaml", tmp_path / "packed"
    config.write_text(f"models: {{signers: [{public.name}], require_signature: true}}\n")
    said = command("models", "pack", recite_gguf, "--sign", private, "--out", packed).ok()
    sha256 = hashlib.sha256(recite_gguf.read_bytes()).hexdigest()
    assert said.out == f"{sha256}  recite.gguf\n"
    command("check", "--config", config, "--models", models_yaml(tmp_path, recite_gguf)).ok()
    assert "is not signed" in cli("models", "import", recite_gguf, "--config", config).err
    planned = cli("models", "import", packed, "--config", config, "--plan").ok()
    assert planned.out.startswith("recite: would copy 1 files, 8.0")
    imported = cli("models", "import", packed, "--config", config).ok()
    assert imported.out.startswith("recite: imported, 8.0")
    assert ", signed by release " in imported.out
    (entry,) = yaml.safe_load("models:\n" + imported.out[imported.out.index("  - id:") :])["models"]
    assert entry == {"id": "recite", "path": str(state.models / "recite" / "recite.gguf"), "n_ctx": 8192}
    listed = cli("models", "list").ok().out
    assert "recite  llama" in listed
    shown = cli("models", "show", "recite").ok().out
    for fact in (sha256, "release ", "llama", "8192 tokens", f"from {packed}"):
        assert fact in shown
    assert cli("models", "verify", "recite").ok().out.startswith("recite: whole, ")
    assert cli("models", "remove", "recite", "--plan").ok().out == "recite: would be removed\n"
    assert cli("models", "remove", "recite", "--yes").ok().out == "recite: removed\n"
    assert cli("models", "list").ok().out == "none\n"


def models_yaml(folder: Path, model: Path) -> Path:
    path = folder / "models.yaml"
    path.write_text(f"models: [{{id: recite, path: {model}}}]\n")
    return path


def test_a_crash_is_quarantined_and_said(cli: Command, state: StateDir, tmp_path: Path) -> None:
    path = tmp_path / "crash.gguf"
    build_crashing(path)
    said = cli("models", "import", path)
    assert said.code == 1
    assert "(signal 6)" in said.err
    assert "`appliance models remove --quarantined`" in said.err
    assert "quarantined" in cli("models", "list").ok().out
    assert (state.models / ".quarantine" / "crash" / "crash.gguf").exists()
    cli("models", "remove", "crash", "--quarantined", "--yes").ok()
    assert cli("models", "list").ok().out == "none\n"


@pytest.mark.slow
def test_a_smaller_model_is_made_and_shown(cli: Command, state: StateDir, random_gguf: Path) -> None:
    cli("models", "import", random_gguf, "--name", "m-f32").ok()
    planned = cli("models", "quantize", "m-f32", "--to", "q4_k_m", "--plan").ok().out
    assert "m-q4_k_m: would take about 2.6 MiB, m-f32 takes 13.5 MiB" in planned
    made = cli("models", "quantize", "m-f32", "--to", "Q4_K_M", "--threads", "1").ok().out
    assert made.startswith("m-q4_k_m: Q4_K_M of m-f32, 2.6 MiB, not signed\nweights: Q5_0 72 %, Q8_0 27 %, F32 ")
    (entry,) = yaml.safe_load("models:\n" + made[made.index("  - id:") :])["models"]
    assert entry["path"] == str(state.models / "m-q4_k_m" / "m-q4_k_m.gguf")
    shown = cli("models", "show", "m-q4_k_m").ok().out
    assert f"m-f32, sha256 {hashlib.sha256(random_gguf.read_bytes()).hexdigest()}" in shown
    assert "Q5_0 72 %" in shown
    assert "`appliance models quantize m-f32 --to TYPE`" in cli("models", "show", "m-f32").ok().out
    assert "there are f16, bf16, q8_0, " in cli("models", "quantize", "m-f32", "--to", "small").err
    assert "or say --requantize" in cli("models", "quantize", "m-q4_k_m", "--to", "q4_0").err


def test_any_file_is_shown_by_its_header(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_random(tmp_path / "big.gguf", tensors_per_file=6)
    shown = command("models", "show", tmp_path / "big-00002-of-00004.gguf").ok().out
    assert "random weights" in shown
    assert "not stated" in shown
    assert shown.count("-of-00004.gguf, ") == 4
    monkeypatch.chdir(tmp_path)
    assert command("models", "show", "big-00001-of-00004.gguf", "--json").ok().json["header"]["layers"] == 2
    (tmp_path / "big-00003-of-00004.gguf").unlink()
    assert "big-00003-of-00004.gguf is missing" in command("models", "show", "./big-00001-of-00004.gguf").err


def test_refusals_that_need_no_appliance(command: Command, cli: Command, tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(small_model()[:200])
    assert "there is no such file" in command("models", "show", tmp_path / "missing.gguf").err
    assert "small.gguf is refused: it ends before" in command("models", "show", path).err
    assert "small.gguf is refused: it ends before" in cli("models", "import", path).err
    assert "is no private key in PEM" in command("models", "pack", path, "--sign", path).err
    assert "cannot be read" in command("models", "pack", path, "--sign", tmp_path / "missing.key").err
    assert "exists; name a folder" in packed(command, tmp_path)
    for arguments in (("show", "x"), ("verify", "x"), ("remove", "x", "--yes")):
        said = cli("models", *arguments)
        assert (said.code, "x" in said.err) == (1, True)


def packed(command: Command, folder: Path) -> str:
    (folder / "good.gguf").write_bytes(small_model())
    return command("models", "pack", folder / "good.gguf", "--out", folder).err


def test_a_link_on_the_way_is_followed_for_the_user_and_the_last_is_not(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "small.gguf").write_bytes(small_model())
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "link.gguf").symlink_to("small.gguf")
    assert cli("models", "import", tmp_path / "link" / "small.gguf", "--plan").ok().out.startswith("small: would copy")
    assert "is a symbolic link" in cli("models", "import", tmp_path / "real" / "link.gguf", "--plan").err


def test_sizes_and_amounts() -> None:
    assert [size(count) for count in (0, 999, 1000, 1023, 1024, 5_197_472, 40 * 2**30, 2**50)] == (
        ["0 B", "999 B", "1000 B", "1023 B", "1 KiB", "4.96 MiB", "40 GiB", "1024 TiB"]
    )
    assert [amount(count) for count in (0, 576, 4_740_352, 7_615_616_512, 10**15)] == [
        "0",
        "576",
        "4.74 M",
        "7.62 B",
        "1000 T",
    ]
