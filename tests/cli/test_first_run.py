"""`appliance first-run`, as far as it goes on a host that is not to be configured; tests/system carries it out."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.first_run.answers import Answers, read_answers
from appliance.first_run.files import files
from appliance.first_run.handover import HANDOVER
from appliance.security.certificates import certificate_pem
from tests.cli.conftest import Command, Said
from tests.security.authorities import ForeignCa


def test_the_example_can_be_used_as_it_is(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(command("first-run", "--example").ok().out)
    assert read_answers(path).names


@pytest.mark.parametrize(
    ("text", "says"),
    [("prot: 1", "unknown key"), ("administrators: {no-such-user: [operator]}", "no user no-such-user")],
)
def test_answers_that_cannot_be_change_nothing(command: Command, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(text)
    said = command("first-run", "--answers", str(path))
    assert said.code == 1
    assert says in said.err or "sudo" in said.err


def test_nobody_who_answers_is_told_of_the_file(command: Command) -> None:
    said = command("first-run")
    assert said.code == 1
    assert "--answers" in said.err


# What waits until the appliance serves.


def waiting(tmp_path: Path, answers: Answers) -> Path:
    (tmp_path / "home").mkdir(exist_ok=True)
    path = tmp_path / "first-run.json"
    path.write_text(files(answers)[HANDOVER])
    return path


def finish(cli: Command, tmp_path: Path) -> Said:
    """On a host that clients call llm.example."""
    config = tmp_path / "appliance.yaml"
    config.write_text("listeners: {api: {names: [llm.example]}}\n")
    where = ("--waiting", tmp_path / "first-run.json", "--out", tmp_path / "home", "--config", config)
    return cli("first-run", "--finish", *where).ok()


def test_the_first_client_is_made_in_a_folder_of_its_own(cli: Command, tmp_path: Path) -> None:
    path = waiting(tmp_path, Answers(client="webapp"))
    folder = tmp_path / "home/webapp"
    assert f"{folder}: " in finish(cli, tmp_path).out
    assert {file.name for file in folder.iterdir()} == {"client.crt", "client.key", "ca.crt", "api.key"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
    assert "webapp" in cli("clients", "list").out
    assert not path.exists()
    assert finish(cli, tmp_path).out == "nothing waits to be made\n"


def test_one_that_was_cut_short_makes_what_is_missing_and_nothing_twice(cli: Command, tmp_path: Path) -> None:
    waiting(tmp_path, Answers(client="webapp"))
    finish(cli, tmp_path)
    folder = tmp_path / "home/webapp"
    certificate = (folder / "client.crt").read_bytes()
    (folder / "api.key").unlink()
    waiting(tmp_path, Answers(client="webapp"))
    finish(cli, tmp_path)
    assert (folder / "api.key").exists()
    assert (folder / "client.crt").read_bytes() == certificate


def test_a_client_of_a_backup_gets_no_keys_that_nobody_asked_for(cli: Command, tmp_path: Path) -> None:
    waiting(tmp_path, Answers(client="demo"))
    said = finish(cli, tmp_path)
    assert f"appliance clients bundle demo --out {tmp_path / 'home/demo'}" in said.out
    assert not (tmp_path / "home/demo").exists()


def test_the_command_that_is_said_takes_the_answer_to_the_request(cli: Command, tmp_path: Path) -> None:
    path = waiting(tmp_path, Answers(certificate="request"))
    said = finish(cli, tmp_path)
    key = x509.load_pem_x509_csr((tmp_path / "home/server.csr").read_bytes()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    site = ForeignCa("Site Root")
    chain = certificate_pem(site.server(key, ["llm.example"])) + certificate_pem(site.certificate)
    (tmp_path / "home/server-chain.pem").write_bytes(chain)
    command = next(line.split() for line in said.out.splitlines() if "certs import" in line)
    assert cli(*command[1:], "--config", tmp_path / "appliance.yaml").ok().out.startswith("server: active")
    assert not path.exists()


def test_a_request_stays_as_long_as_its_private_key_is_here(cli: Command, tmp_path: Path) -> None:
    """One of an appliance that was removed would lead to a certificate that nobody can use."""
    waiting(tmp_path, Answers(certificate="request"))
    path = tmp_path / "home/server.csr"
    path.write_text("of an earlier one")
    finish(cli, tmp_path)
    request = path.read_text()
    assert request.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    waiting(tmp_path, Answers(certificate="request"))
    assert "keeps the signing request" in finish(cli, tmp_path).out
    assert path.read_text() == request


def test_a_folder_of_another_appliances_client_is_not_written_over(cli: Command, tmp_path: Path) -> None:
    path = waiting(tmp_path, Answers(client="webapp"))
    (tmp_path / "home/webapp").mkdir()
    (tmp_path / "home/webapp/api.key").write_text("of an earlier one")
    said = cli("first-run", "--finish", "--waiting", path, "--out", tmp_path / "home")
    assert said.code == 1
    assert "name another folder with --out" in said.err
    assert (tmp_path / "home/webapp/api.key").read_text() == "of an earlier one"
    assert path.exists()


def test_what_cannot_be_made_still_waits(cli: Command, tmp_path: Path) -> None:
    path = waiting(tmp_path, Answers(client="webapp"))
    (tmp_path / "home").rmdir()
    (tmp_path / "home").write_text("no folder")
    said = cli("first-run", "--finish", "--waiting", path, "--out", tmp_path / "home")
    assert said.code == 1
    assert "is no folder" in said.err
    assert path.exists()
    assert "webapp" not in cli("clients", "list").out
