"""What goes wrong, said in a sentence that tells what to do next; exit code 1, and nothing has changed."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from appliance.cli.files import bundle_folder, check_file, check_folder, files_of, hand_over, read_pem
from appliance.errors import ConfigError, StateError
from appliance.state_dir import StateDir
from tests.cli.conftest import Command

ARGUMENTS: list[tuple[tuple[str, ...], str]] = [
    (("keys", "rotate", "../x"), "there is no API key '../x'; `appliance keys list`"),
    (("keys", "rotate", "../../status"), "there is no API key"),
    (("keys", "rotate", ".."), "'..' is no name or id"),
    (("keys", "rotate", ""), "'' is no name or id"),
    (("keys", "revoke", "x?plan=true", "--yes"), "there is no API key 'x?plan=true'"),
    (("keys", "revoke", "x\x1b[31m", "--yes"), "there is no API key"),
    (("keys", "revoke-token", "..", "--yes"), "no name or id"),
    (("keys", "add", "nobody"), "`appliance clients list` shows them"),
    (("clients", "add", "Dify"), "use 1 to 63 of a-z, 0-9 and '-'"),
    (("clients", "add", "../evil"), "use 1 to 63 of a-z, 0-9 and '-'"),
    (("clients", "add", "demo"), "exists; choose another name, or renew"),
    (("clients", "renew", "a/../demo"), "there is no client 'a/../demo'"),
    (("clients", "revoke", "nobody", "--yes"), "there is no client 'nobody'"),
    (("clients", "restore", "demo"), "is not revoked"),
    (("certs", "issue", "../x", "--admin"), "use 1 to 63 of a-z, 0-9 and '-'"),
    (("certs", "revoke", "00000000", "--yes"), "`appliance certs list` shows them"),
    (("certs", "rotate-ca", "../client", "start"), "known: server, client, admin"),
    (("certs", "rotate-ca", "client", "issue"), "the next step is `start`"),
    (("certs", "trust", "root"), "known: server, client, admin"),
    (("certs", "activate"), "`appliance certs renew server` makes one"),
    (("certs", "csr"), "listeners.<name>.names in appliance.yaml"),
    (("allow", "add", "example.org"), "example.org"),
    (("allow", "add", "192.0.2.1/24"), "192.0.2.0/24"),
    (("allow", "remove", "192.0.2.0/24"), "`appliance allow list`"),
    (("allow", "apply"), "`appliance allow add`"),
    (("allow", "confirm"), "`appliance allow list`"),
    (("allow", "test", "x"), "'x' is no address"),
    (("secrets", "rotate-data-key", "../kek"), "known: "),
    (("secrets", "retire-pepper", "1", "--yes"), "rotate the pepper first"),
    (("approvals", "approve", "../x"), "there is no approval '../x'"),
    (("reload",), "no daemon runs here"),
    (("keys", "add", "demo", "--if-generation", "99"), "Look at them again, then repeat"),
    (("keys", "add", "demo", "--label", "x" * 300), "label"),
]


def test_every_refusal_says_what_to_do(cli: Command) -> None:
    for arguments, says in ARGUMENTS:
        said = cli(*arguments)
        assert (said.code, said.out) == (1, ""), arguments
        assert re.match(r"appliance: .+\n\Z", said.err), (arguments, said.err)
        assert says in said.err, (arguments, said.err)
        assert "\x1b" not in said.err
    assert cli("status", "--json").json["generation"] == 1


def test_what_is_no_choice_is_usage(cli: Command) -> None:
    said = cli("certs", "rotate-ca", "client", "next")
    assert (said.code, "known: start, issue, finalize" in said.err) == (2, True), said


def test_a_second_person_without_a_daemon(command: Command, state: StateDir, tmp_path: Path) -> None:
    """No advice that cannot work: what this command notes ends with it."""
    config = tmp_path / "appliance.yaml"
    config.write_text("admin: {two_persons: [pepper.rotate]}\n")
    for options in ((), ("--approval", "0a1b2c3d")):
        said = command("secrets", "rotate-pepper", *options, "--state-dir", state.path, "--config", config)
        assert said.code == 1
        assert said.err == (
            "appliance: pepper.rotate needs a second administrator, who can agree only while the appliance runs; "
            "start it, then repeat the command\n"
        )


def test_a_state_directory_that_is_missing_or_none(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir(mode=0o700)
    for folder, says in (
        ("missing", "does not exist; check --state-dir"),
        ("file", "is not a folder"),
        ("file/below", "Not a directory"),
        ("empty", "does not exist"),
    ):
        said = command("keys", "list", "--state-dir", tmp_path / folder)
        assert said.code == 1
        assert says in said.err
    assert "needs a folder of its own" in command("keys", "list", "--state-dir", "").err
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "chmod 700" in command("keys", "list", "--state-dir", tmp_path / "open").err


def test_a_state_directory_without_keys(command: Command, tmp_path: Path) -> None:
    StateDir(tmp_path / "new").prepare()
    said = command("keys", "list", "--state-dir", tmp_path / "new")
    assert (said.code, "appliance certs init" in said.err) == (1, True)


def test_a_daemon_that_holds_the_lock(cli: Command, state: StateDir) -> None:
    with state.lock():
        said = cli("keys", "list")
    assert said.code == 1
    assert f"in use by another daemon (pid {os.getpid()})" in said.err
    assert cli("keys", "list").ok()


def test_appliance_yaml_that_is_wrong(command: Command, state: StateDir, tmp_path: Path) -> None:
    config = tmp_path / "appliance.yaml"
    for text, says in (
        ("admin: {two_persons: [key.revok]}\n", "did you mean 'key.revoke'"),
        ("listeners: {admin.remote: {port: 8500}}\n", "listeners.admin.remote"),
        ("admin: {grups: {}}\n", "appliance.yaml:1"),
    ):
        config.write_text(text)
        said = command("keys", "list", "--state-dir", state.path, "--config", config)
        assert (said.code, says in said.err) == (1, True), said.err
    assert said.err.endswith("; until it is mended, name a good copy with --config\n")
    said = command("keys", "list", "--state-dir", state.path, "--config", tmp_path / "missing.yaml")
    assert said.code == 1
    assert "missing.yaml" in said.err


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "closed"])
def test_a_signing_request_that_cannot_be_read(cli: Command, tmp_path: Path, kind: str) -> None:
    csr = tmp_path / "x.csr"
    if kind == "folder":
        csr.mkdir()
    elif kind == "binary":
        csr.write_bytes(b"\xff\x00")
    elif kind == "closed":
        csr.symlink_to(csr)
    for arguments in (("clients", "add", "x"), ("clients", "renew", "demo"), ("certs", "issue", "x")):
        said = cli(*arguments, "--csr", csr)
        assert (said.code, str(csr) in said.err) == (1, True), said.err
    if kind == "binary":
        for verb in ("import", "import-crl"):
            said = cli("certs", verb, csr)
            assert (said.code, "no PEM file" in said.err) == (1, True)
    csr = tmp_path / "text.csr"
    csr.write_text("hello")
    assert "BEGIN CERTIFICATE REQUEST" in cli("clients", "add", "x", "--csr", csr).err


def test_nothing_is_made_that_could_not_be_written(cli: Command, tmp_path: Path) -> None:
    """A key that is shown once must have a place before it is made."""
    file = tmp_path / "file"
    file.write_text("x")
    kid = cli("keys", "list", "--json").json[0]["kid"]
    for arguments in (
        ("clients", "add", "dify", "--out", file),
        ("clients", "add", "dify", "--out", file / "below"),
        ("clients", "renew", "demo", "--out", file),
        ("certs", "issue", "anna", "--admin", "--out", file),
        ("certs", "renew", "demo", "--out", file),
        ("keys", "add", "demo", "--out", tmp_path),
        ("keys", "add", "demo", "--out", tmp_path / "missing" / "key"),
        ("keys", "add", "demo", "--out", "/dev/null"),
        ("keys", "rotate", kid, "--out", file / "below"),
        ("certs", "crl", "--out", tmp_path),
        ("certs", "trust", "--out", tmp_path / "missing" / "ca.crt"),
    ):
        said = cli(*arguments)
        assert (said.code, said.out) == (1, ""), arguments
        assert re.search(r"--out|name a file|make it first", said.err), said.err
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert cli("status", "--json").json["generation"] == 1


def test_what_exists_nowhere_else_is_not_written_over(cli: Command, tmp_path: Path) -> None:
    file = tmp_path / "api.key"
    cli("keys", "add", "demo", "--out", file).ok()
    key = file.read_text()
    for arguments in (
        ("keys", "add", "demo", "--out", file),
        ("audit", "export", file),
        ("audit", "take-key", file),
    ):
        said = cli(*arguments)
        assert (said.code, f"{file} exists and would be lost; name another file" in said.err) == (1, True), said
    assert file.read_text() == key
    assert len(cli("keys", "list", "--json").json) == 2
    cli("keys", "rotate", key[7:19], "--out", file).ok()
    assert file.read_text() != key


def test_another_clients_files_are_not_overwritten(cli: Command, tmp_path: Path) -> None:
    cli("clients", "add", "one", "--out", tmp_path / "bundle").ok()
    key = (tmp_path / "bundle" / "api.key").read_text()
    said = cli("clients", "add", "two", "--out", tmp_path / "bundle")
    assert said.code == 1
    assert "exists and would be lost; name another folder with --out" in said.err
    assert (tmp_path / "bundle" / "api.key").read_text() == key
    assert [client["name"] for client in cli("clients", "list", "--json").json] == ["demo", "one"]


def test_a_remote_port_that_is_not_there_or_none(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_ADMIN_URL", "llm.example:8444")
    monkeypatch.setenv("APPLIANCE_ADMIN_BUNDLE", str(tmp_path))
    said = command("whoami")
    assert (
        said.code,
        f"APPLIANCE_ADMIN_BUNDLE: {tmp_path}: not a usable admin bundle (ca.crt, admin.crt, admin.key)" in said.err,
    ) == (1, True)


# The files themselves.


def test_an_answer_cannot_write_elsewhere(tmp_path: Path) -> None:
    for name in ("../x", "/etc/x", "a/b", "..", "", "x\0y"):
        with pytest.raises(StateError, match="nothing is written"):
            files_of({"files": {"client.crt": "x", name: "evil"}})


def test_files_that_could_not_be_written_after_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="stored nowhere else: do this"):
        hand_over(tmp_path / "file" / "x", {"files": {"client.crt": "x"}}, lost="do this")


def test_reading_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than 16777216 bytes"):
        read_pem(Path("/dev/zero"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_this_user_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="may not write there"):
        check_folder(tmp_path / "new")
    with pytest.raises(ConfigError, match="may not write there"):
        check_file(tmp_path / "new")


def test_places_that_will_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    check_file(None)
    check_file(tmp_path / "file")
    check_file(tmp_path / "new")
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "and" / "deeper", new=("x",))


def test_what_is_no_ordinary_file_is_not_replaced_by_one(cli: Command, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for arguments in (("audit", "export", pipe), ("audit", "take-key", pipe), ("keys", "add", "demo", "--out", pipe)):
        said = cli(*arguments)
        assert (said.code, said.out) == (1, ""), arguments
    said = cli("audit", "export", tmp_path / "missing" / "x")
    assert (said.code, "make it first" in said.err) == (1, True)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert cli("audit", "take-key", tmp_path / "verification.key").ok()


def test_a_remote_appliances_client_does_not_go_to_the_state_directory_here(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APPLIANCE_ADMIN_URL", raising=False)
    assert bundle_folder(state.path, None, "demo") == state.clients / "demo"
    monkeypatch.setenv("APPLIANCE_ADMIN_URL", "https://llm.example:8444")
    monkeypatch.chdir(tmp_path)
    assert bundle_folder(state.path, None, "demo") == tmp_path / "demo"
    assert bundle_folder(state.path, Path("there"), "demo") == Path("there")
