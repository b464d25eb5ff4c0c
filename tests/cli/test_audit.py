"""`appliance audit`: results that a monitor can trust, and nothing that is written over."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.state_dir import StateDir
from tests.cli.conftest import Command


def test_a_result_is_told_by_its_exit_code(cli: Command, state: StateDir) -> None:
    open_end = cli("audit", "verify")
    assert open_end.code == 2
    assert open_end.out.startswith("whole, its newest records not sealed yet: ")
    next(state.audit.glob("*.log")).write_bytes(b"not a record\n")
    shutil.copytree(state.audit, state.path.parent / "copy")
    tampered = cli("audit", "verify", "--folder", state.path.parent / "copy")
    assert tampered.code == 1
    assert tampered.out.startswith("tampered: ")


def test_no_record_is_said(cli: Command) -> None:
    assert cli("audit", "tail", "--principal", "nobody").ok().out == "none\n"


def test_what_prevents_a_verification_is_no_result(cli: Command, state: StateDir, tmp_path: Path) -> None:
    text, binary, empty = tmp_path / "text", tmp_path / "binary", tmp_path / "empty"
    text.write_text("hello")
    binary.write_bytes(b"\xff")
    empty.mkdir()
    missing = tmp_path / "missing"
    for options, says in (
        (("--k0", missing), f"{missing} cannot be read"),
        (("--k0", tmp_path), "cannot be read"),
        (("--k0", text), "no verification key"),
        (("--k0", binary), "no verification key"),
        (("--k0", text, "--folder", state.audit), "no verification key"),
        (("--folder", missing), f"{missing} cannot be read"),
        (("--folder", text), f"{text} cannot be read"),
        (("--folder", empty), f"{empty} holds no audit log"),
        (("--folder", state.path), "holds no audit log; name the folder `audit` or a copy of it"),
        (("--folder", state.audit, "--anchor", missing), "anchor"),
        (("--anchor", text), "--folder"),
        (("--since", "yesterday"), "is no time"),
        (("--foldr", state.audit), "No such option"),
        (("more",), "unexpected"),
    ):
        said = cli("audit", "verify", *options)
        assert (said.code, said.out) == (3, ""), (options, said)
        assert says in said.err, (options, said.err)
    with state.lock():
        assert cli("audit", "verify").code == 3
    assert cli("audit", "verify", "--help").code == 0


def test_a_copy_without_its_segments_is_tampered_with(cli: Command, state: StateDir) -> None:
    for segment in state.audit.glob("0*"):
        segment.unlink()
    assert cli("audit", "verify", "--folder", state.audit).code == 1
