"""What each command does and says when all is well."""

from __future__ import annotations

import os
import pwd
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.security.api_keys import ApiKey
from appliance.security.certificates import certificate_pem
from appliance.security.entry_hits import EntryHits
from appliance.state_dir import StateDir
from tests.cli.conftest import Command
from tests.security.authorities import ForeignCa, client_csr

# Whom the daemon sees at its socket.
ME = re.escape(pwd.getpwuid(os.getuid()).pw_name)


def first_kid(cli: Command) -> str:
    return str(cli("keys", "list", "--json").json[0]["kid"])


def test_a_client_from_its_folder_to_its_end(cli: Command, tmp_path: Path) -> None:
    folder = tmp_path / "dify"
    planned = cli("clients", "add", "dify", "--plan").ok()
    assert planned.out == "dify: would get a certificate and an API key\n"
    assert re.search(r"generation (\d+): --if-generation \1", planned.err)
    added = cli("clients", "add", "dify", "--out", folder).ok()
    assert added.out.startswith(f"{folder}: client.crt ca.crt client.key api.key\n")
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ("client.crt", "ca.crt", "client.key", "api.key"), 0o600
    )
    key = ApiKey.parse((folder / "api.key").read_text().strip())
    assert key is not None
    listed = cli("clients", "list").ok().out.splitlines()
    assert listed[0] == "CLIENT  API KEYS      CERTIFICATE UNTIL (UTC)"
    assert listed[2].startswith(f"dify    {key.kid}  20")

    renewed = cli("clients", "renew", "dify", "--out", tmp_path / "again").ok()
    assert renewed.out == f"{tmp_path / 'again'}: client.crt ca.crt client.key\n"
    assert cli("certs", "renew", "dify", "--out", tmp_path / "third").ok().out.startswith(f"{tmp_path / 'third'}: ")
    assert cli("clients", "revoke", "dify", "--plan").ok().out == "dify: would be revoked; 0 connections ended\n"
    assert cli("clients", "revoke", "dify", "--yes").ok().out == "dify: revoked; 0 connections ended\n"
    assert cli("clients", "list").ok().out.splitlines()[2].endswith("revoked")
    assert cli("clients", "restore", "dify").ok().out == "dify: is let in again\n"
    assert not cli("clients", "list", "--json").json[1]["revoked"]


def test_without_out_the_files_go_to_the_state_directory(cli: Command, state: StateDir) -> None:
    cli("clients", "add", "dify").ok()
    assert (state.clients / "dify" / "client.key").exists()
    cli("certs", "issue", "anna", "--admin").ok()
    assert (state.clients / "admin-anna" / "admin.key").exists()


def test_a_signing_request_keeps_the_private_key_away(cli: Command, tmp_path: Path) -> None:
    csr = tmp_path / "dify.csr"
    csr.write_bytes(client_csr(ec.generate_private_key(ec.SECP256R1()), "dify", "appliance://any/client/dify"))
    cli("clients", "add", "dify", "--csr", csr, "--out", tmp_path / "dify").ok()
    assert not (tmp_path / "dify" / "client.key").exists()


def test_a_keys_life(cli: Command, tmp_path: Path) -> None:
    made = cli("keys", "add", "demo", "--label", "staging").ok()
    key = ApiKey.parse(made.out.strip())
    assert key is not None, "the screen has the key alone, so that it can be piped"
    assert key.kid in made.err
    file = tmp_path / "api.key"
    rotated = cli("keys", "rotate", key.kid, "--grace-hours", "168", "--out", file).ok()
    successor = ApiKey.parse(file.read_text().strip())
    assert successor is not None
    assert file.stat().st_mode & 0o777 == 0o600
    assert rotated.out.startswith(f"{file}: the key {successor.kid} of demo; it works until ")
    assert f"{key.kid} works until " in rotated.out
    assert successor.reveal() not in rotated.out + rotated.err
    table = cli("keys", "list", "demo").ok().out
    assert "KEY ID" in table
    for word in (key.kid, successor.kid, "retiring", "staging", "never"):
        assert word in table
    assert cli("keys", "list", "nobody").ok().out == "none\n"
    shown = cli("keys", "show", successor.kid).ok().out
    for word in ("demo", "staging", "inference", "last day", "refused"):
        assert word in shown
    assert "`appliance keys list`" in cli("keys", "show", "nobody").err
    assert cli("keys", "revoke", key.kid, typed="y\n").ok().out == f"{key.kid}: revoked; 0 connections ended\n"
    assert re.search(rf"^{key.kid} +demo +revoked +never", cli("keys", "list").ok().out, re.M), "it works no more"
    assert cli("keys", "revoke-token", "some/jti?", "--yes").ok().out == "some/jti?: revoked; 0 connections ended\n"


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_changed(cli: Command, answer: str) -> None:
    cli("secrets", "rotate-pepper").ok()
    cli("certs", "rotate-ca", "client", "start").ok()
    for arguments in (
        ("keys", "revoke", first_kid(cli)),
        ("clients", "revoke", "demo"),
        ("secrets", "rekey"),
        ("secrets", "retire-pepper", "1", "--force"),
        ("certs", "rotate-ca", "client", "rollback"),
    ):
        said = cli(*arguments, typed=answer)
        assert said.code == 1
        assert "nothing was changed; answer y, or give --yes" in said.err
        assert said.out.strip() == "", "a question is no answer"
    assert cli("status", "--json").json["generation"] == 3


def test_nobody_is_asked_about_what_cannot_be_done(cli: Command) -> None:
    for arguments in (
        ("keys", "revoke", "nokey"),
        ("clients", "revoke", "nobody"),
        ("certs", "revoke", "00000000"),
        ("secrets", "retire-pepper", "1"),
        ("certs", "rotate-ca", "client", "rollback"),
    ):
        said = cli(*arguments, typed="y\n")
        assert (said.code, said.out, "[y/N]" in said.err) == (1, "", False), said


def test_a_plan_does_not_read_like_an_act(cli: Command) -> None:
    for arguments in (
        ("secrets", "rotate-data-key", "credentials"),
        ("secrets", "rekey"),
        ("secrets", "rotate-pepper"),
        ("secrets", "rotate-seal-key"),
    ):
        said = cli(*arguments, "--plan").ok()
        assert "would" in said.out, said
        assert said.err == "planned at generation 1: --if-generation 1 holds it to that\n"


def test_a_broken_models_file_does_not_hide_what_is_right(command: Command, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: 1\n")
    said = command("check", "--models", tmp_path / "models.yaml")
    assert (said.code, said.out) == (1, "built-in defaults: ok\n")


def test_plans_change_nothing(cli: Command, tmp_path: Path) -> None:
    kid = first_kid(cli)
    csr = tmp_path / "out"
    for arguments in (
        ("clients", "add", "dify"),
        ("clients", "renew", "demo"),
        ("clients", "revoke", "demo"),
        ("keys", "add", "demo", "--out", csr),
        ("keys", "rotate", kid),
        ("keys", "revoke", kid),
        ("certs", "issue", "anna", "--admin"),
        ("certs", "renew"),
        ("certs", "renew", "demo"),
        ("certs", "rotate-ca", "client", "start"),
        ("allow", "add", "192.0.2.0/24"),
        ("secrets", "rotate-data-key", "credentials"),
        ("secrets", "rekey"),
        ("secrets", "rotate-pepper"),
        ("secrets", "rotate-seal-key"),
    ):
        said = cli(*arguments, "--plan").ok()
        assert said.out, arguments
        assert "apl_sk_" not in said.out
    assert cli("status", "--json").json["generation"] == 1
    assert not csr.exists()


def test_the_server_certificate_and_authorities(cli: Command, tmp_path: Path) -> None:
    staged = cli("certs", "renew", "--stage-only").ok().out
    assert re.match(r"server: staged, valid until 20..-..-.. ..:.. UTC\n", staged)
    for verb in ("activate", "rollback"):
        assert cli("certs", verb).ok().out.startswith("server: active, valid until ")
    table = cli("certs", "list").ok().out
    for word in ("server CA", "client CA", "admin CA", "client demo", "previous", "active"):
        assert word in table
    assert cli("certs", "rotate-ca", "client", "start").ok().out == "client CA: trust_both; 0 connections ended\n"
    assert cli("certs", "trust", "client").ok().out.count("BEGIN CERTIFICATE") == 2
    assert cli("certs", "rotate-ca", "client", "rollback", "--yes").ok().out.startswith("client CA: standby")

    serial = cli("certs", "list", "--json").json["issued"][0]["serial"]
    assert cli("certs", "revoke", serial[:16], "--yes", "--reason", "lost").ok().out.startswith(serial)
    file = tmp_path / "client.crl"
    assert cli("certs", "crl", "--out", file).ok().out == f"{file}: written\n"
    assert len(x509.load_pem_x509_crl(file.read_bytes())) == 1
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_certificate_made_elsewhere(command: Command, state: StateDir, tmp_path: Path) -> None:
    config = tmp_path / "appliance.yaml"
    config.write_text("listeners: {api: {names: [llm.example]}}\n")
    csr, chain = tmp_path / "server.csr", tmp_path / "chain.pem"
    where = ("--state-dir", state.path, "--config", config)
    said = command("certs", "csr", "--out", csr, *where).ok()
    assert (said.out, said.err) == (f"{csr}: written\n", "for: llm.example\n")
    ca = ForeignCa("Site Root")
    leaf = ca.server(x509.load_pem_x509_csr(csr.read_bytes()).public_key(), ["llm.example"])
    chain.write_bytes(certificate_pem(leaf) + certificate_pem(ca.certificate))
    assert command("certs", "import", chain, "--plan", *where).ok().out == "it fits\n"
    assert command("certs", "import", chain, *where).ok().out.startswith("server: active, valid until")


def test_the_allowlist(cli: Command) -> None:
    assert cli("allow", "list").ok().out == "The list is empty: only this host may connect.\n"
    assert cli("allow", "denied").ok().out == "none\n"
    added = cli("allow", "add", "192.0.2.0/24", "198.51.100.0/24", "--comment", "Dify [hosts]").ok().out
    assert re.search(rf"^\+ +192\.0\.2\.0/24 +every +{ME} +20..-..-.. ..:.. +Dify \[hosts\]$", added, re.M)
    assert cli("allow", "test", "192.0.2.1").ok().out == "192.0.2.1 at api: is refused; staged: may connect\n"
    applied = cli("allow", "apply").ok().out
    assert re.search(r"On trial until 20..-..-.. ..:..:.. UTC; ", applied)
    assert "0 connections ended. Confirm with `appliance allow confirm`." in applied
    assert cli("allow", "confirm").ok().out == "confirmed\n"
    listed = cli("allow", "list").ok().out
    assert re.search(rf"^192\.0\.2\.0/24 +every +{ME} +20..-..-.. ..:.. .*Dify \[hosts\]$", listed, re.M)
    assert re.search(r"^- +192\.0\.2\.0/24", cli("allow", "remove", "192.0.2.0/24").ok().out, re.M)
    assert "STAGED" not in cli("allow", "discard").ok().out
    cli("allow", "remove", "192.0.2.0/24").ok()
    cli("allow", "apply", "--confirm", "60").ok()
    reverted = cli("allow", "revert").ok().out
    assert re.search(r"^STAGED .*\n +192\.0\.2\.0/24 (?s:.*)\n- +192\.0\.2\.0/24 ", reverted)


def test_entries_that_nobody_needs(cli: Command, state: StateDir) -> None:
    cli("allow", "add", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24").ok()
    cli("allow", "apply", "--confirm", "0").ok()
    hits, now = EntryHits(state.store / "allow_hits.json"), datetime.now(UTC)
    for name, ago in (("192.0.2.0/24 *", 40), ("192.0.2.0/24 *", 0), ("198.51.100.0/24 *", 40)):
        hits.note(name, now - timedelta(days=ago))
    hits.keep([f"{name} *" for name in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")], now - timedelta(days=2))
    hits.save()
    listed = cli("allow", "list").ok().out
    assert re.search(r"^192\.0\.2\.0/24 .* 1 +20..-..-.. ..:..$", listed, re.M)
    assert re.search(r"^203\.0\.113\.0/24 .* 0 +never since 20..-..-.. ..:..$", listed, re.M)
    unused = cli("allow", "list", "--unused", "30d").ok()
    assert re.findall(r"^[0-9./]+", unused.out, re.M) == ["198.51.100.0/24"]
    assert unused.err == "1 entry is counted for less long than that, and not looked at\n"
    assert re.findall(r"^[0-9./]+", cli("allow", "list", "--unused", "1d").ok().out, re.M) == [
        "198.51.100.0/24",
        "203.0.113.0/24",
    ]
    assert cli("allow", "list", "--unused", "90d").ok().out == "none\n"


def test_an_entry_for_some_time(cli: Command) -> None:
    added = cli("allow", "add", "192.0.2.0/24", "--for", "7d", "--comment", "auditors").ok().out
    assert re.search(rf"^\+ +192\.0\.2\.0/24 +every +{ME} +20..-..-.. ..:.. +20..-..-.. ..:.. +auditors$", added, re.M)
    cli("allow", "apply", "--confirm", "0").ok()
    assert re.search(r"at api: may connect until 20..-..-.. ..:..:.. UTC$", cli("allow", "test", "192.0.2.1").ok().out)
    assert cli("allow", "diff").ok().out == "nothing is staged\n"
    cli("allow", "extend", "192.0.2.0/24", "--until", "2030-01-01 18:00").ok()
    shown = cli("allow", "diff").ok().out
    assert re.search(r"^- .* 20..-..-.. ..:.. +auditors\n\+ .* 2030-01-01 18:00 +auditors$", shown, re.M)
    assert "2030" in cli("allow", "diff", "--json").ok().out
    cli("allow", "extend", "192.0.2.0/24", "--no-end").ok()
    assert "2030" not in cli("allow", "diff").ok().out
    for wrong, says in (
        (("add", "192.0.2.1", "--for", "soon"), "'soon' is no end; write 12h"),
        (("add", "192.0.2.1", "--for", "1d", "--until", "2030-01-01"), "not both"),
        (("add", "192.0.2.1", "--until", "2020-01-01"), "give a later end"),
        (("extend", "192.0.2.0/24"), "--for, --until or --no-end"),
    ):
        said = cli("allow", *wrong)
        assert (said.code != 0, says in said.err) == (True, True), said.err


def test_secrets(cli: Command) -> None:
    table = cli("secrets", "list").ok().out
    assert re.search(r"^data key credentials +1 +20", table, re.M)
    assert "key-encryption key of the data keys: file:" in table
    assert cli("secrets", "rotate-pepper").ok().out == "peppers: 1, 2\n"
    said = cli("secrets", "retire-pepper", "1", "--yes")
    assert (said.code, "--force" in said.err) == (1, True)
    retired = cli("secrets", "retire-pepper", "1", "--yes", "--force").ok()
    assert retired.out == "pepper 1: is gone; 1 API keys revoked\n"
    assert cli("secrets", "rotate-data-key", "credentials").ok().out == "credentials: now generation 2\n"
    assert cli("secrets", "rekey", "--yes").ok().out == "key-encryption key: file\n"
    assert cli("secrets", "rotate-seal-key").ok().out.startswith("seal key: ")
    # The old seal key's last act was to close its segment.
    said = cli("audit", "verify", "--since", "2100-01-01")
    assert (said.code, "segments ended before --since" in said.out) == (2, True)


def test_who_and_how(cli: Command) -> None:
    assert cli("whoami").ok().out.endswith(": auditor, operator, security, viewer\n")
    status = cli("status")
    assert (status.code, status.out) == (1, "running     no\ngeneration  1\n"), "a monitor must not see a healthy one"
    assert cli("approvals", "list").ok().out == "none\n"


def test_founding_an_appliance(command: Command, tmp_path: Path) -> None:
    said = command("certs", "init", "--state-dir", tmp_path / "new").ok()
    assert "client demo" in said.out
    assert (tmp_path / "new" / "clients" / "demo" / "api.key").exists()


def test_a_state_directory_deeper_than_a_sockets_path_may_be_long(
    command: Command, state: StateDir, tmp_path: Path
) -> None:
    deep = tmp_path / ("deep" * 20) / ("er" * 30) / "state"
    deep.parent.mkdir(parents=True)
    state.path.rename(deep)
    assert command("keys", "list", "--state-dir", deep).ok().out.startswith("KEY ID")
    assert [path.name for path in (deep / "run").iterdir() if path.is_socket()] == []


# What fits on a terminal of 80 columns, and on a narrow one.


LISTS = ("keys", "clients", "certs", "secrets", "allow")


def test_lists_fit_eighty_columns_and_cut_nothing(cli: Command) -> None:
    cli("clients", "add", "a-client-with-quite-a-long-name-for-a-client").ok()
    kid = first_kid(cli)
    cli("keys", "add", "demo", "--label", "a label of some length, as people write them, with a remark").ok()
    cli("keys", "rotate", kid).ok()
    network = "2001:db8:1234:5678:9abc:def0::/96"
    cli("allow", "add", network, "--comment", "the second site's hosts, until it moves").ok()
    said = [cli(name, "list", columns=80).ok() for name in LISTS]
    for one in said:
        assert max(map(len, one.out.splitlines())) <= 80, one.out
        assert "…" not in one.out
    for key in cli("keys", "list", "--json").json:
        assert key["kid"] in said[0].out
        assert key["kid"] in said[1].out
    certificates = cli("certs", "list", "--json").json
    for issued in certificates["issued"]:
        assert issued["serial"][:16] in said[2].out
        assert issued["fingerprint"][:16] in said[2].out
    assert network[:24] in said[4].out


def test_a_narrow_terminal_folds_and_hides_nothing(cli: Command) -> None:
    kid = first_kid(cli)
    said = cli("keys", "list", columns=30).ok().out
    assert re.search(rf"^key id +{kid}$", said, re.M)
    assert re.search(r"^client +demo$", said, re.M)


def test_json_is_ascii_and_whole(cli: Command) -> None:
    cli("keys", "add", "demo", "--label", "über \x1b[31m漢").ok()
    said = cli("keys", "list", "--json").ok()
    assert said.out.isascii()
    assert "\x1b" not in said.out
    assert said.json[0]["label"] == "über \x1b[31m漢"
    assert "\\x1b[31m" in cli("keys", "list").ok().out
