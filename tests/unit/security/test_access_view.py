"""appliance.security.access_view"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from appliance.access_config import Admin, Certificates, JwtIssuer, Listener, PrincipalSettings, RemoteAdmin
from appliance.config import Config
from appliance.errors import ConfigError, StateError
from appliance.security.access_view import (
    ADMIN_LISTENER,
    AccessView,
    ConfiguredAccess,
    all_allowlists,
    client_authorities,
)
from appliance.security.ca_changes import finalize_rotation, issue_from_successor, roll_back, start_rotation
from appliance.security.certificate_facts import own_key_id
from appliance.security.credentials import AllowEntry, AllowState, Credentials, StoredCrl
from appliance.security.crl import make_crl
from appliance.security.issuing import make_authority, make_server
from appliance.security.key_changes import add_pepper
from appliance.security.revocations import revoke
from appliance.security.server_changes import activate_server, stage_server
from appliance.security.stored_pair import certificate_of, load_pair
from tests.security.authorities import ForeignCa
from tests.unit.security.making import DAY, HERE, NAMES, NOW, PROFILES, configured, founded

REMOTE = RemoteAdmin(allow=("10.0.0.0/8",), administrators={})


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


ROOT = ForeignCa()
LEAF = ROOT.server(ROOT.key.public_key(), ["llm.example"])


def external(folder: Path, data: bytes | None = None, **settings: str) -> ConfiguredAccess:
    (folder / "trust.pem").write_bytes(pem(ROOT.certificate) if data is None else data)
    certificates = Certificates(client_ca="external", trust=("trust.pem",), **settings)  # type: ignore[arg-type]
    return ConfiguredAccess.load(Config(certificates=certificates), folder, NOW)


# What appliance.yaml may not say.


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            Config(listeners={"api": Listener(names=("https://llm.example",))}),
            "listeners: names: 'https://llm.example'",
        ),
        (Config(listeners={ADMIN_LISTENER: Listener()}), "the remote admin port has this name"),
        (Config(listeners={"dify": Listener(mode="key")}), r"listeners.dify.allow: mode `key` asks for no certificate"),
        (
            Config(principals={"demo": PrincipalSettings(allow=("10.0.0.1/8",))}),
            "principals.demo.allow: '10.0.0.1/8': has host bits set",
        ),
        (Config(certificates=Certificates(client_ca="external")), "certificates.trust: client_ca: external needs"),
        (Config(certificates=Certificates(trust=("no.pem",))), r"certificates.trust: .*no.pem cannot be read: No such"),
        (Config(certificates=Certificates(trust=("..",))), r"certificates.trust: .* cannot be read: Is a directory"),
        (
            Config(jwt=(JwtIssuer(issuer="i", audience="a", keys=("no.pem",)),)),
            "no.pem",
        ),
    ],
    ids=["name", "reserved name", "open listener", "principal's network", "no trust", "no file", "folder", "jwt"],
)
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path: Path, config: Config, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ConfiguredAccess.load(config, tmp_path, NOW)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (Config(listeners={"api": Listener(allow=("10.0.0.0/33",))}), "listeners.api.allow: '10.0.0.0/33'"),
        (Config(listeners={"api": Listener(allow=("",))}), "listeners.api.allow: ''"),
        (
            Config(admin=Admin(remote=replace(REMOTE, allow=("10.0.0.0/0.0.0.255",)))),
            "admin.remote.allow: '10.0.0.0/0.0.0.255'",
        ),
    ],
    ids=["network", "empty", "remote admin"],
)
def test_an_allowlist_that_makes_no_sense_makes_no_view(config: Config, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        AccessView.build(configured(config), founded())


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "holds no certificate"),
        (pem(LEAF), "is no authority"),
        (pem(ForeignCa(valid=(-9 * DAY, -DAY)).certificate), "no authority is left to trust"),
        (pem(ROOT.certificate)[:-30], "is cut short or damaged"),
        (b"x" * 2**21, "is larger than"),
    ],
    ids=["empty", "leaf", "expired", "cut", "large"],
)
def test_trust_that_cannot_be_used_is_refused_by_file(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(ConfigError, match=rf"certificates\.trust: .*trust\.pem.*{sentence}"):
        external(tmp_path, data)


# What a view says.


def test_whose_clients_count(tmp_path: Path) -> None:
    document = founded()
    own = own_key_id(certificate_of(document.authorities["client"].current))
    theirs = own_key_id(ROOT.certificate)
    assert AccessView.build(configured(), document).issuers == {own}
    assert AccessView.build(external(tmp_path), document).issuers == {theirs}
    both = Config(certificates=Certificates(trust=("trust.pem",)))
    assert AccessView.build(ConfiguredAccess.load(both, tmp_path, NOW), document).issuers == {own, theirs}


def test_whose_clients_count_while_the_authority_is_rotated() -> None:
    document = founded()
    old = own_key_id(certificate_of(document.authorities["client"].current))
    successor = make_authority(PROFILES, "client", document.appliance_id, NOW)
    new = own_key_id(certificate_of(successor))
    phases = [document, start_rotation(document, "client", successor, NOW)]
    phases.append(issue_from_successor(phases[1], "client", NOW))
    phases.append(finalize_rotation(phases[2], "client", [], NOW, force=False))
    phases.append(roll_back(phases[2], "client", NOW))
    views = [AccessView.build(configured(), phase) for phase in phases]
    assert [view.issuers for view in views] == [{old}, {old, new}, {old, new}, {new}, {old}]


def test_every_listener_asks_for_what_its_mode_says(tmp_path: Path) -> None:
    config = Config(
        listeners={
            "api": Listener(),
            "certs": Listener(mode="cert"),
            "keys": Listener(mode="key", allow=("10.0.0.1",)),
        },
        admin=Admin(remote=REMOTE),
    )
    view = AccessView.build(configured(config), founded())
    asks = {name: context.verify_mode == ssl.CERT_REQUIRED for name, context in view.contexts.items()}
    assert asks == {"api": True, "certs": True, "keys": False, ADMIN_LISTENER: True}
    assert view.contexts["api"] is view.contexts["certs"], "equal ones are built once"
    assert view.contexts["api"] is not view.contexts[ADMIN_LISTENER]
    assert [view.mode(name) for name in config.listeners] == ["cert_and_key", "cert", "key"]


def test_allowlists_are_those_of_both_sources() -> None:
    config = Config(listeners={"api": Listener(allow=("10.0.0.0/8",)), "b": Listener()}, admin=Admin(remote=REMOTE))
    entries = (AllowEntry(network="192.0.2.0/24"), AllowEntry(network="198.51.100.1/32", listener="b"))
    view = AccessView.build(configured(config), replace(founded(), allow=AllowState.of(entries=entries)))
    networks = {name: sorted(map(str, allowlist.networks)) for name, allowlist in view.allowlists.items()}
    assert networks == {
        "api": ["10.0.0.0/8", "192.0.2.0/24"],
        "b": ["192.0.2.0/24", "198.51.100.1/32"],
        ADMIN_LISTENER: ["10.0.0.0/8"],
    }
    assert all_allowlists(config, entries).keys() == view.allowlists.keys()
    assert AccessView.build(configured(), founded()).allowlists["api"].allows(HERE, NOW) is False


def test_principals_have_their_settings_and_strangers_the_defaults() -> None:
    settings = PrincipalSettings(role="viewer", allow=("10.0.0.0/8",))
    access = configured(Config(principals={"demo": settings, "bob": PrincipalSettings()}))
    view = AccessView.build(access, founded())
    assert view.settings("demo") == settings
    assert view.settings("nobody") == PrincipalSettings()
    assert access.networks.keys() == {"demo"}


def test_an_imported_certificate_covers_the_names_of_the_configuration_alone() -> None:
    access = configured(
        Config(listeners={"a": Listener(names=("llm.example",)), "b": Listener(names=("llm.example",))})
    )
    own = founded().server.active
    assert access.own_names == ("llm.example",)
    assert access.names_of(own) == access.names
    assert set(access.names) > {"localhost", "llm.example"}
    assert access.names_of(replace(own, chain=(b"",))) == ("llm.example",)
    assert configured().names_of(replace(own, chain=(b"",))) == configured().names


# What is compiled anew.


def renewed(document: Credentials) -> Credentials:
    return activate_server(stage_server(document, make_server(document, PROFILES, NAMES, NOW)))


def test_contexts_are_kept_while_nothing_about_tls_changes() -> None:
    document = founded()
    first = AccessView.build(configured(), document)
    changed = revoke(add_pepper(document, b"p" * 32, NOW), "principal", "demo", NOW, by="anna", reason="")
    changed = stage_server(changed, make_server(changed, PROFILES, NAMES, NOW))
    second = AccessView.build(configured(Config(principals={"demo": PrincipalSettings()})), changed, first)
    assert second.contexts is first.contexts
    assert second.revocations.principals == {"demo"}
    assert second.peppers.newest == 2
    assert AccessView.build(configured(), document).contexts is not first.contexts


@pytest.mark.parametrize(
    "config",
    [
        Config(listeners={"api": Listener(mode="key", allow=("10.0.0.1",))}),
        Config(listeners={"api": Listener(names=("llm.example",))}),
        Config(admin=Admin(remote=REMOTE)),
        Config(listeners={"api": Listener(), "b": Listener()}),
    ],
    ids=["mode", "names", "remote admin", "listener"],
)
def test_contexts_are_built_anew_with_another_configuration(config: Config) -> None:
    first = AccessView.build(configured(), founded())
    assert AccessView.build(configured(config), founded(), first).contexts is not first.contexts


def test_contexts_are_built_anew_with_other_credentials() -> None:
    document = founded()
    first = AccessView.build(configured(), document)
    assert AccessView.build(configured(), renewed(document), first).contexts is not first.contexts
    successor = make_authority(PROFILES, "client", document.appliance_id, NOW)
    rotating = start_rotation(document, "client", successor, NOW)
    assert AccessView.build(configured(), rotating, first).contexts is not first.contexts


# Revocation lists.


def with_crl(document: Credentials, revoked: Mapping[int, object], number: int = 1) -> Credentials:
    authority = load_pair(document.authorities["client"].current)
    data = make_crl(authority, dict.fromkeys(revoked, NOW), number, NOW, NOW + DAY)
    stored = StoredCrl(issuer_key_id=own_key_id(authority.certificate), data=data, imported=NOW)
    return replace(document, crls=(stored,))


def test_stored_lists_are_verified_again_and_then_kept() -> None:
    document = with_crl(founded(), {1: 0, 2: 0})
    view = AccessView.build(configured(), document)
    assert [crl.serials for crl in view.crls.values()] == [{1, 2}]
    assert AccessView.build(configured(), renewed(document), view).crls is view.crls
    newer = AccessView.build(configured(), with_crl(document, {3: 0}, 2), view)
    assert [crl.serials for crl in newer.crls.values()] == [{3}]


def test_lists_of_those_who_are_trusted_no_more_do_not_count(tmp_path: Path) -> None:
    document = with_crl(founded(), {1: 0})
    assert AccessView.build(external(tmp_path), document).crls == {}


def test_a_damaged_list_is_a_damaged_state() -> None:
    document = with_crl(founded(), {1: 0})
    (stored,) = document.crls
    for data in (stored.data[:-40], with_crl(founded(NOW - DAY), {1: 0}).crls[0].data, b""):
        with pytest.raises(StateError, match="a stored revocation list cannot be used any more"):
            AccessView.build(configured(), replace(document, crls=(replace(stored, data=data),)))


# What makes no view.


@pytest.mark.parametrize("part", ["key", "certificate"])
def test_a_server_certificate_without_its_other_half_makes_no_view(part: str) -> None:
    document = founded()
    other = make_server(document, PROFILES, NAMES, NOW)
    for value in (None, getattr(other, part)) if part == "key" else (getattr(other, part),):
        active = replace(document.server.active, **{part: value})
        with pytest.raises(StateError, match="no TLS with this server certificate"):
            AccessView.build(configured(), replace(document, server=replace(document.server, active=active)))


def test_authorities_of_clients_are_each_named_once(tmp_path: Path) -> None:
    document = founded()
    both = Config(certificates=Certificates(trust=("trust.pem",)))
    external(tmp_path)
    found = client_authorities(ConfiguredAccess.load(both, tmp_path, NOW), document)
    assert found == [certificate_of(document.authorities["client"].current), ROOT.certificate]
