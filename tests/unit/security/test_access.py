"""appliance.security.access"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from appliance.access_config import (
    Admin,
    Certificates,
    JwtIssuer,
    Listener,
    ListenerMode,
    PrincipalSettings,
    RemoteAdmin,
)
from appliance.config import Config
from appliance.security.access import Principal, check_address, check_certificate, check_open, decide
from appliance.security.access_view import ADMIN_LISTENER, AccessView, ConfiguredAccess
from appliance.security.allowlist import Address, Allowlist
from appliance.security.api_keys import ApiKey, KeyRecord, Peppers
from appliance.security.credentials import AllowEntry, AllowState, Credentials, RevocationKind
from appliance.security.crl import Crl
from appliance.security.identity import Peer, PeerIdentity, peer_identity
from appliance.security.key_changes import add_key, revoke_key, rotate_key
from appliance.security.refusal import INCORRECT_KEY, Refusal
from appliance.security.revocations import restore_principal, revoke
from tests.security.tokens import AUDIENCE, ISSUER, KeyFolder, claims, private_key, public_pem, token
from tests.unit.security.making import DAY, HERE, HOUR, NOW, configured, founded, with_client

MODES: tuple[ListenerMode, ...] = ("cert_and_key", "cert", "key")
ELSEWHERE = IPv4Address("10.9.9.9")
SECONDS = int(NOW.timestamp())


def jwt(principal: str, jti: str | None = "token-1") -> str:
    return token(
        private_key("EdDSA"),
        claims(sub=principal, jti=jti, iat=SECONDS - 10, nbf=SECONDS - 10, exp=SECONDS + 3600),
    )


@dataclass(frozen=True)
class World:
    """One view with a client in every state, its certificates, and what can be shown beside them."""

    view: AccessView
    certificates: Mapping[str, PeerIdentity]
    shown: Mapping[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("jwt")
    KeyFolder(folder).write("issuer.pem", public_pem(private_key("EdDSA")))
    config = Config(
        listeners={mode: Listener(mode=mode, allow=("10.0.0.0/8", "2001:db8::/32")) for mode in MODES},
        principals={name: PrincipalSettings() for name in ("demo", "bob", "token-only")},
        jwt=(JwtIssuer(issuer=ISSUER, audience=AUDIENCE, keys=("issuer.pem",), algorithms=("EdDSA",)),),
    )
    document, demo = with_client(founded())
    document, bob = with_client(document, "bob")
    keys = {name: ApiKey.generate() for name in ("retiring", "retired", "expired", "revoked", "no pepper")}
    for name in ("retiring", "retired", "expired", "revoked"):
        document = add_key(document, keys[name], "demo", NOW - 10 * DAY, 9 * DAY if name == "expired" else 90 * DAY)
    for name, grace in (("retiring", 9 * DAY), ("retired", 7 * DAY)):
        at = NOW - 8 * DAY
        document = rotate_key(document, keys[name].kid, ApiKey.generate(), at, grace=grace, life=90 * DAY)
    document = revoke_key(document, keys["revoked"].kid, NOW)
    lost = KeyRecord.of(keys["no pepper"], "demo", Peppers({7: b"z" * 32}), created=NOW)
    document = replace(document, keys={**document.keys, lost.kid: lost})
    good = peer_identity(demo.certificate, document.appliance_id)
    document = revoke(document, "certificate", f"{good.issuer_key_id}:29a", NOW, by="anna", reason="")
    document = revoke(document, "token", "token-9", NOW, by="anna", reason="")
    view = AccessView.build(ConfiguredAccess.load(config, folder, NOW), document)
    lists = (("crl", NOW + DAY, {5}), ("stale crl", NOW - HOUR, {5}))
    crls = {issuer: Crl(issuer, 1, NOW - DAY, until, frozenset(serials)) for issuer, until, serials in lists}
    view = dataclasses.replace(view, crls=crls, issuers=view.issuers | crls.keys())
    certificates = {
        "good": good,
        "expired": dataclasses.replace(good, not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        "not yet": dataclasses.replace(good, not_before=NOW + HOUR),
        "revoked": dataclasses.replace(good, serial=0x29A),
        "untrusted": dataclasses.replace(good, issuer_key_id="ee" * 20),
        "nameless issuer": dataclasses.replace(good, issuer_key_id=""),
        "in crl": dataclasses.replace(good, issuer_key_id="crl", serial=5),
        "not in crl": dataclasses.replace(good, issuer_key_id="crl", serial=6),
        "crl expired": dataclasses.replace(good, issuer_key_id="stale crl", serial=6),
        "in expired crl": dataclasses.replace(good, issuer_key_id="stale crl", serial=5),
    }
    text = demo.key.reveal()
    shown = {
        "nothing": "",
        "active": f"Bearer {text}",
        **{name: f"Bearer {key.reveal()}" for name, key in keys.items()},
        "mistyped": f"Bearer {text[:-1]}" + ("A" if text[-1] != "A" else "B"),
        "wrong secret": f"Bearer {ApiKey('sk', demo.key.kid, bob.key.secret).reveal()}",
        "unknown": f"Bearer {ApiKey.generate().reveal()}",
        "adm": f"Bearer {ApiKey('adm', demo.key.kid, demo.key.secret).reveal()}",
        "bob's": bob.bearer,
        "token": f"Bearer {jwt('demo')}",
        "token without id": f"Bearer {jwt('demo', None)}",
        "bob's token": f"Bearer {jwt('bob')}",
        "revoked token": f"Bearer {jwt('demo', 'token-9')}",
        "stranger's token": f"Bearer {jwt('nobody')}",
    }
    return World(view, certificates, shown)


GOOD_CERTIFICATES = {"good", "not in crl"}
WORKING = {
    "active": "demo",
    "retiring": "demo",
    "bob's": "bob",
    "token": "demo",
    "token without id": "demo",
    "bob's token": "bob",
}


def expected(mode: ListenerMode, certificate: str, shown: str, banned: frozenset[str], afar: frozenset[str]) -> str:
    """What must come out: a principal's name or the code of the refusal. Written from the contract, not the code."""
    if mode != "key" and certificate not in GOOD_CERTIFICATES:
        return "certificate_rejected"
    if mode == "cert":
        who = "demo"
    elif shown == "nothing":
        return "missing_api_key"
    elif shown not in WORKING:
        return "invalid_api_key"
    else:
        who = WORKING[shown]
        if mode == "cert_and_key" and who != "demo":
            return "invalid_api_key"
    if who in banned:
        return "access_revoked"
    return "address_not_allowed" if who in afar else who


def outcome(view: AccessView, peer: Peer, identity: PeerIdentity | None, header: str) -> str:
    try:
        return decide(view, peer, identity, [header] if header else [], NOW).id
    except Refusal as refusal:
        return refusal.code


def peer_at(listener: str, address: Address = HERE) -> Peer:
    return Peer(address, b"", listener, NOW)


NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    "banned", [NOBODY, frozenset({"demo"}), frozenset({"bob"})], ids=lambda names: " ".join(sorted(names)) or "nobody"
)
@pytest.mark.parametrize(
    "afar",
    [NOBODY, frozenset({"demo"}), frozenset({"demo", "bob"})],
    ids=lambda names: " ".join(sorted(names)) or "nobody",
)
def test_every_combination(world: World, banned: frozenset[str], afar: frozenset[str]) -> None:
    """Mode × certificate × what is shown, for principals that are well, revoked, or not to come from here."""
    networks = {name: Allowlist.parse(["192.0.2.0/24"]) for name in afar}
    view = dataclasses.replace(world.view, configured=dataclasses.replace(world.view.configured, networks=networks))
    for name in banned:
        document = revoke(view.document, "principal", name, NOW, by="anna", reason="")
        view = AccessView.build(view.configured, document, view)
        view = dataclasses.replace(view, crls=world.view.crls, issuers=world.view.issuers)
    wrong = []
    for mode, certificate, shown in itertools.product(MODES, world.certificates, world.shown):
        identity = None if mode == "key" else world.certificates[certificate]
        got = outcome(view, peer_at(mode), identity, world.shown[shown])
        if got != (want := expected(mode, certificate, shown, banned, afar)):
            wrong.append(f"{mode}, {certificate} certificate, {shown}: {got}, not {want}")
    assert not wrong


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("mistyped", "mistyped or cut short"),
        ("wrong secret", "with a wrong secret"),
        ("unknown", "unknown API key"),
        ("adm", "the admin key"),
        ("no pepper", "whose pepper 7 was retired"),
        ("retired", "the retired API key"),
        ("expired", "the expired API key"),
        ("revoked", "the revoked API key"),
        ("revoked token", "the revoked token token-9"),
        ("stranger's token", "a token for nobody, who is not in `principals`"),
    ],
)
def test_a_wrong_key_is_told_apart_in_the_log_alone(world: World, shown: str, reason: str) -> None:
    header = world.shown[shown]
    with pytest.raises(Refusal) as caught:
        decide(world.view, peer_at("key"), None, [header], NOW)
    assert (caught.value.code, caught.value.status) == ("invalid_api_key", 401)
    assert caught.value.message == INCORRECT_KEY
    assert reason in caught.value.reason
    # The request log counts it for the key only where it was really shown.
    assert (caught.value.kid is not None) == (shown in ("retired", "expired", "revoked"))
    key = ApiKey.parse(header.removeprefix("Bearer "))
    assert key is None or key.secret not in caught.value.reason


@pytest.mark.parametrize(
    "text",
    ["sk-1234", "x" * 20_000, "\ud800", "a.b", "a.b.c", "..", "é", "\x00", "{} {}"],
    ids=lambda text: repr(text)[:9],
)
def test_junk_is_an_incorrect_key(world: World, text: str) -> None:
    assert outcome(world.view, peer_at("key"), None, f"Bearer {text}") == "invalid_api_key"


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {} ", " Bearer {}", "\tBearer {}"])
def test_the_header_may_be_written_loosely(world: World, form: str) -> None:
    text = world.shown["active"].removeprefix("Bearer ")
    assert outcome(world.view, peer_at("key"), None, form.format(text)) == "demo"


@pytest.mark.parametrize("header", ["Bearer", "Bearer  ", "Basic dXNlcjpwYXNz", "{}", "Token {}", "Bearer{}"])
def test_another_scheme_is_no_key(world: World, header: str) -> None:
    text = world.shown["active"].removeprefix("Bearer ")
    assert outcome(world.view, peer_at("key"), None, header.format(text)) == "missing_api_key"


@pytest.mark.parametrize("mode", MODES)
def test_two_headers_are_refused_whatever_they_say(world: World, mode: ListenerMode) -> None:
    identity = None if mode == "key" else world.certificates["good"]
    with pytest.raises(Refusal) as caught:
        decide(world.view, peer_at(mode), identity, [world.shown["active"]] * 2, NOW)
    assert (caught.value.code, caught.value.status) == ("invalid_request", 400)


def test_who_it_is_and_by_what(world: World) -> None:
    good = world.certificates["good"]
    by_key = decide(world.view, peer_at("cert_and_key"), good, [world.shown["active"]], NOW)
    assert (by_key.id, by_key.credential, by_key.expires) == ("demo", "key", None)
    assert by_key.settings == PrincipalSettings()
    by_certificate = decide(world.view, peer_at("cert"), good, [world.shown["unknown"]], NOW)
    assert (by_certificate.credential, by_certificate.kid) == ("certificate", good.fingerprint[:16])
    by_token = decide(world.view, peer_at("cert_and_key"), good, [world.shown["token"]], NOW)
    assert (by_token.credential, by_token.kid) == ("token", "token-1")


def test_a_retiring_key_says_until_when(world: World) -> None:
    principal = decide(world.view, peer_at("key"), None, [world.shown["retiring"]], NOW)
    assert principal.expires == NOW + DAY
    late = NOW + DAY
    assert decide(world.view, peer_at("key"), None, [world.shown["active"]], late).expires is None
    with pytest.raises(Refusal):
        decide(world.view, peer_at("key"), None, [world.shown["retiring"]], late)


def test_a_mismatch_names_nobody_to_the_client(world: World) -> None:
    for shown, what in (("bob's", "API key"), ("bob's token", "token")):
        with pytest.raises(Refusal) as caught:
            decide(world.view, peer_at("cert_and_key"), world.certificates["good"], [world.shown[shown]], NOW)
        assert "bob" not in caught.value.message
        assert f"sent the {what} " in caught.value.reason
        assert caught.value.reason.endswith("of client bob")


def test_a_warning_lets_in_whom_an_expired_list_does_not_name(world: World) -> None:
    config = replace(world.view.configured.config, certificates=Certificates(crl_expired="warn"))
    view = dataclasses.replace(world.view, configured=dataclasses.replace(world.view.configured, config=config))
    check_certificate(view, world.certificates["crl expired"], view.issuers, NOW)
    with pytest.raises(Refusal, match="revocation list"):
        check_certificate(view, world.certificates["in expired crl"], view.issuers, NOW)


@pytest.mark.parametrize("address", [HERE, IPv6Address("2001:db8::1")])
def test_a_principals_networks_narrow_where_it_may_come_from(world: World, address: Address) -> None:
    networks = {"demo": Allowlist.parse(["10.0.0.1", "2001:db8::/32"])}
    view = dataclasses.replace(world.view, configured=dataclasses.replace(world.view.configured, networks=networks))
    assert outcome(view, peer_at("key", address), None, world.shown["active"]) == "demo"
    assert outcome(view, peer_at("key", ELSEWHERE), None, world.shown["active"]) == "address_not_allowed"
    assert outcome(view, peer_at("key", ELSEWHERE), None, world.shown["bob's"]) == "bob"


def test_the_allowlist_is_asked_at_each_request() -> None:
    """The end of an entry waits for no new connection."""
    document, demo = with_client(founded())
    entry = AllowEntry(network="10.0.0.0/8", until=NOW)
    view = AccessView.build(configured(), replace(document, allow=AllowState.of((entry,))))
    identity, peer = peer_identity(demo.certificate, document.appliance_id), demo.peer(address=HERE)
    assert check_address(view, peer, NOW - timedelta(microseconds=1)).network == ip_network("10.0.0.0/8")
    check_open(view, peer, identity, None, NOW - timedelta(microseconds=1))
    with pytest.raises(Refusal, match="may not come in") as caught:
        check_address(view, peer, NOW)
    assert (caught.value.code, caught.value.reason) == ("address_not_allowed", "is not in the allowlist")
    assert end(view, peer, identity, None) == "is not in the allowlist"


def test_a_restored_principal_comes_back_with_what_was_not_revoked_itself() -> None:
    document, demo = with_client(founded())
    second = ApiKey.generate()
    document = add_key(document, second, "demo", NOW, 90 * DAY)
    document = revoke(document, "principal", "demo", NOW, by="anna", reason="")
    document = revoke_key(document, demo.key.kid, NOW)
    view = AccessView.build(configured(), document)
    identity = peer_identity(demo.certificate, document.appliance_id)
    headers = [demo.bearer, f"Bearer {second.reveal()}"]
    assert [outcome(view, demo.peer(), identity, header) for header in headers] == ["invalid_api_key", "access_revoked"]
    view = AccessView.build(configured(), restore_principal(document, "demo"), view)
    assert [outcome(view, demo.peer(), identity, header) for header in headers] == ["invalid_api_key", "demo"]


# Connections that are open when something changes.

KEY = Principal("demo", "key", "", PrincipalSettings())


def shown_key(world: World, name: str = "active") -> Principal:
    key = ApiKey.parse(world.shown[name].removeprefix("Bearer "))
    assert key is not None
    return dataclasses.replace(KEY, kid=key.kid)


def end(view: AccessView, peer: Peer, identity: PeerIdentity | None, shown: Principal | None) -> str | None:
    try:
        check_open(view, peer, identity, shown, NOW)
    except Refusal as refusal:
        return refusal.reason
    return None


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        ("good", None),
        ("expired", None),
        ("crl expired", None),
        ("revoked", "was refused: its certificate is revoked"),
        ("untrusted", "was refused: its certificate is of an authority that is no longer trusted"),
        ("nameless issuer", "was refused: its certificate is of an authority that is no longer trusted"),
        ("in crl", "was refused: its certificate is in its authority's revocation list"),
        ("in expired crl", "was refused: its certificate is in its authority's revocation list"),
    ],
)
def test_a_connection_ends_with_its_certificate(world: World, certificate: str, why: str | None) -> None:
    """Dates are the next request's matter."""
    assert end(world.view, peer_at("cert"), world.certificates[certificate], None) == why


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("active", None),
        ("retiring", None),
        ("retired", None),
        ("expired", None),
        ("revoked", "sent the revoked API key"),
        ("unknown", "sent the unknown API key"),
    ],
)
def test_a_connection_ends_with_its_key(world: World, name: str, why: str | None) -> None:
    shown = shown_key(world, name)
    assert end(world.view, peer_at("key"), None, shown) == (None if why is None else f"{why} {shown.kid}")


def changed_document(world: World, document: Credentials) -> AccessView:
    view = AccessView.build(world.view.configured, document, world.view)
    return dataclasses.replace(view, crls=world.view.crls, issuers=world.view.issuers)


def changed_configuration(world: World, **changes: Any) -> AccessView:
    return dataclasses.replace(world.view, configured=dataclasses.replace(world.view.configured, **changes))


def changes(world: World) -> dict[str, AccessView]:
    """The view after each thing that can be taken from `demo`, its certificate, key and token."""
    document, good, kid = world.view.document, world.certificates["good"], shown_key(world).kid

    def after(kind: RevocationKind, value: str) -> AccessView:
        return changed_document(world, revoke(document, kind, value, NOW, by="anna", reason=""))

    config, keys = world.view.configured.config, {**document.keys}
    keys.pop(kid)
    listed = Crl(good.issuer_key_id, 1, NOW - DAY, NOW + DAY, frozenset({good.serial}))
    return {
        "nothing": world.view,
        "certificate": after("certificate", good.reference),
        "token": after("token", "token-1"),
        "client": after("principal", "demo"),
        "another client": after("principal", "bob"),
        "key": changed_document(world, revoke_key(document, kid, NOW)),
        "forgotten key": changed_document(world, replace(document, keys=keys)),
        "authority": dataclasses.replace(world.view, issuers=frozenset()),
        "list": dataclasses.replace(world.view, crls={good.issuer_key_id: listed}),
        "networks": changed_configuration(world, networks={"demo": Allowlist.parse(["192.0.2.0/24"])}),
        "principals": changed_configuration(world, config=replace(config, principals={})),
    }


def test_a_connection_ends_exactly_when_its_next_request_would_be_refused(world: World) -> None:
    wrong, seen = [], set()
    for (what, view), mode, header in itertools.product(changes(world).items(), MODES, ("active", "token")):
        peer = peer_at(mode)
        identity = None if mode == "key" else world.certificates["good"]
        shown = decide(world.view, peer, identity, [world.shown[header]], NOW)
        refused = outcome(view, peer, identity, world.shown[header]) != "demo"
        seen.add((what, refused))
        if (end(view, peer, identity, shown) is not None) != refused:
            wrong.append(f"{mode}, {header}, {what}")
        # Without a request yet, what the certificate says is all there is.
        if mode == "cert" and (end(view, peer, identity, None) is not None) != refused:
            wrong.append(f"{mode}, no request yet, {what}")
    assert not wrong
    assert {what for what, refused in seen if not refused} >= {"nothing", "another client"}
    assert {what for what, refused in seen if refused} == changes(world).keys() - {"nothing", "another client"}


@pytest.mark.parametrize("credential", ["key", "token", "certificate"])
def test_a_connection_ends_with_its_principal(world: World, credential: Literal["key", "token", "certificate"]) -> None:
    document = revoke(world.view.document, "principal", "demo", NOW, by="anna", reason="")
    view = AccessView.build(world.view.configured, document, world.view)
    shown = dataclasses.replace(shown_key(world), credential=credential)
    assert end(view, peer_at("key"), None, shown) == "is the revoked client demo"
    assert end(view, peer_at("cert"), world.certificates["good"], None) == "is the revoked client demo"
    assert end(view, peer_at("key"), None, dataclasses.replace(shown, id="bob")) is None


def test_a_connection_ends_with_its_token(world: World) -> None:
    shown = Principal("demo", "token", "token-1", PrincipalSettings())
    assert end(world.view, peer_at("key"), None, shown) is None
    assert (
        end(world.view, peer_at("key"), None, dataclasses.replace(shown, kid="token-9"))
        == "sent the revoked token token-9"
    )
    stranger = dataclasses.replace(shown, id="nobody")
    assert "not in `principals`" in str(end(world.view, peer_at("key"), None, stranger))


def test_a_connection_ends_where_its_address_may_no_longer_be(world: World) -> None:
    assert end(world.view, peer_at("key", IPv4Address("192.0.2.1")), None, None) == "is not in the allowlist"
    assert end(world.view, peer_at("no listener"), None, None) == "is not in the allowlist"
    networks = {"demo": Allowlist.parse(["10.9.0.0/16"])}
    view = dataclasses.replace(world.view, configured=dataclasses.replace(world.view.configured, networks=networks))
    assert end(view, peer_at("key"), None, shown_key(world)) == "is not in principals.demo.allow"
    assert end(view, peer_at("key", ELSEWHERE), None, shown_key(world)) is None


def test_an_administrators_connection_is_judged_by_the_admin_authority(tmp_path: Path) -> None:
    remote = RemoteAdmin(allow=("10.0.0.0/8",), administrators={"demo": ("security",)})
    document = revoke(with_client(founded())[0], "principal", "demo", NOW, by="anna", reason="")
    view = AccessView.build(configured(Config(admin=Admin(remote=remote))), document)
    (admin_issuer,), (client_issuer,) = view.admin_issuers, view.issuers
    identity = PeerIdentity("demo", NOW - DAY, NOW + DAY, "f" * 64, 1, admin_issuer)
    peer = peer_at(ADMIN_LISTENER)
    assert end(view, peer, identity, None) is None, "the revoked client of that name is somebody else"
    foreign = dataclasses.replace(identity, issuer_key_id=client_issuer)
    assert end(view, peer, foreign, None) == "was refused: its certificate is of an authority that is no longer trusted"
    document = revoke(document, "certificate", identity.reference, NOW, by="anna", reason="")
    view = AccessView.build(view.configured, document, view)
    assert end(view, peer, identity, None) == "was refused: its certificate is revoked"
    closed = AccessView.build(configured(), document)
    assert end(closed, peer, identity, None) == "is not in the allowlist"
