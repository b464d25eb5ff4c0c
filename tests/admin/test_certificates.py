"""The server certificate, authorities and their rotation, revocation lists, as an administrator changes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from appliance.access_config import Certificates, Listener
from appliance.admin.administrator import ALL_ROLES, Administrator
from appliance.admin.handlers.certificates import give_crl
from appliance.admin.route import Call
from appliance.admin.routes import ROUTES
from appliance.admin_client import AdminClient, route
from appliance.config import Config
from appliance.security.certificates import certificate_pem
from appliance.state_dir import StateDir
from tests.admin.desk import Desk, refused
from tests.security.authorities import DAY, ForeignCa

NAMES = ("llm.example", "10.1.2.3")
EXTERNAL = ForeignCa("Site Client CA")


@pytest.fixture
async def named(state: StateDir) -> AsyncIterator[Desk]:
    """With names of its own, which is what a CA elsewhere can be asked for; one authority outside is trusted."""
    (state.path / "trust.pem").write_bytes(certificate_pem(EXTERNAL.certificate))
    config = Config(
        listeners={"api": Listener(names=NAMES)}, certificates=Certificates(client_ca="external", trust=("trust.pem",))
    )
    async with Desk.open(state, config) as desk:
        yield desk


def pem(*certificates: x509.Certificate) -> str:
    return b"".join(map(certificate_pem, certificates)).decode()


# The server certificate.


async def test_renewing_shows_a_new_certificate_and_keeps_the_old_one_for_going_back(admin: AdminClient) -> None:
    first = (await admin.get("/certificates"))["server"]
    assert (first["staged"], first["previous"], first["requested"]) == (None, None, False)
    second = await admin.post("/server/renew")
    assert second["active"]["fingerprint"] != first["active"]["fingerprint"]
    assert second["previous"] == first["active"]
    back = await admin.post("/server/rollback")
    assert (back["active"], back["previous"]) == (first["active"], second["active"])


async def test_staging_first_and_showing_later(desk: Desk, admin: AdminClient) -> None:
    before = (await admin.get("/certificates"))["server"]
    staged = await admin.post("/server/renew", {"stage_only": True})
    assert staged["active"] == before["active"]
    assert staged["staged"] is not None
    active = await admin.post("/server/activate")
    assert (active["active"], active["staged"], active["previous"]) == (staged["staged"], None, before["active"])
    assert await desk.outcomes("server.stage") == await desk.outcomes("server.activate") == ["allow", "ok"]


async def test_nothing_staged_and_nothing_to_go_back_to(admin: AdminClient) -> None:
    for path, hint in (("/server/activate", "certs renew server"), ("/server/rollback", "no previous")):
        error = await refused(admin.post(path))
        assert error.code == "conflict"
        assert hint in str(error)


async def test_a_certificate_made_elsewhere(named: Desk) -> None:
    async with named.client() as admin:
        asked = await admin.post("/server/request")
        request = x509.load_pem_x509_csr(asked["csr"].encode())
        assert asked["names"] == list(NAMES)
        assert (await admin.get("/certificates"))["server"]["requested"]

        middle = ForeignCa("Site Issuing CA", issuer=EXTERNAL)
        chain = pem(middle.server(request.public_key(), NAMES), middle.certificate)
        before = named.office.document
        assert (await admin.post("/server/import", {"chain": chain}, plan=True))["requested"]
        assert named.office.document is before
        staged = await admin.post("/server/import", {"chain": chain, "stage_only": True})
        assert staged["staged"]["issuer"] == "CN=Site Issuing CA"
        assert not staged["requested"]
        active = await admin.post("/server/activate")
        assert active["active"] == staged["staged"]
        context = named.office.access.server_context("api")
        assert context is not None
        error = await refused(admin.post("/server/import", {"chain": chain}))
        assert (error.code, "certs csr" in str(error)) == ("conflict", True)
        assert (await admin.post("/server/rollback"))["active"]["issuer"] != "CN=Site Issuing CA"


async def test_a_certificate_made_elsewhere_and_wrong(named: Desk) -> None:
    async with named.client() as admin:
        asked = await admin.post("/server/request")
        key = x509.load_pem_x509_csr(asked["csr"].encode()).public_key()
        wrong = {
            "does not name 10.1.2.3": pem(EXTERNAL.server(key, NAMES[:1])),
            "private key": pem(EXTERNAL.server(EXTERNAL.key.public_key(), NAMES)),
            "certificate in PEM form": "hello",
            "damaged": pem(EXTERNAL.server(key, NAMES))[:300],
        }
        before = named.office.document
        for says, chain in wrong.items():
            error = await refused(admin.post("/server/import", {"chain": chain}))
            assert error.code == "invalid"
            assert says in str(error)
        stranger = ForeignCa("Somebody")
        assert (
            await refused(admin.post("/server/import", {"chain": pem(stranger.server(key, NAMES))}))
        ).code == "invalid"
        assert named.office.document is before


async def test_a_request_needs_names_of_ones_own(admin: AdminClient) -> None:
    error = await refused(admin.post("/server/request"))
    assert error.code == "invalid"
    assert "listeners.<name>.names" in str(error)


# Certificates of clients and administrators.


async def test_revoking_one_certificate(desk: Desk, admin: AdminClient) -> None:
    await admin.post(route("clients", "demo", "renew"))
    old, new = (await admin.get("/certificates"))["issued"]
    answer = await admin.post("/certificates/revoke", {"certificate": old["serial"][:12], "reason": "lost"})
    assert (answer["name"], answer["serial"], answer["state"]) == ("demo", old["serial"], "revoked")
    states = [one["state"] for one in (await admin.get("/certificates"))["issued"]]
    assert states == ["revoked", "valid"]
    await admin.post("/certificates/revoke", {"certificate": new["fingerprint"].upper()})
    assert await desk.outcomes("certificate.revoke") == ["allow", "ok"] * 2

    crl = await admin.get("/crl")
    parsed = x509.load_pem_x509_crl(crl["pem"].encode())
    assert crl["entries"] == len(parsed) == 2
    assert {f"{entry.serial_number:x}" for entry in parsed} == {one["serial"].lstrip("0") for one in (old, new)}


async def test_what_is_no_certificate_of_ours(admin: AdminClient) -> None:
    for text, code in (
        ("1234567", "invalid"),
        ("x" * 129, "invalid"),
        ("0" * 20, "not_found"),
        ("../../demo", "not_found"),
    ):
        error = await refused(admin.post("/certificates/revoke", {"certificate": text}))
        assert error.code == code, text


async def test_certificates_without_a_key(desk: Desk, admin: AdminClient) -> None:
    anna = await admin.post("/certificates", {"name": "anna", "kind": "admin"})
    assert set(anna["files"]) == {"admin.crt", "admin.key", "ca.crt"}
    ben = await admin.post("/certificates", {"name": "ben"})
    assert set(ben["files"]) == {"client.crt", "client.key", "ca.crt"}
    issued = {(one["kind"], one["name"]) for one in (await admin.get("/certificates"))["issued"]}
    assert issued == {("client", "demo"), ("admin", "anna"), ("client", "ben")}
    error = await refused(admin.post("/certificates", {"name": "../anna", "kind": "admin"}))
    assert (error.code, "a-z" in str(error)) == ("invalid", True)
    assert (await refused(admin.post("/certificates", {"name": "anna", "kind": "root"}))).code == "invalid"


# Authorities.


@pytest.mark.parametrize("name", ["client", "server", "admin"])
async def test_an_authoritys_rotation_step_by_step(desk: Desk, admin: AdminClient, name: str) -> None:
    async def step(step: str, **more: object) -> object:
        return (await admin.post(route("authorities", name, "rotation"), {"step": step, **more}))["phase"]

    async def certificates() -> int:
        return int((await admin.get(route("authorities", name)))["pem"].count("BEGIN CERTIFICATE"))

    async def state() -> dict[str, object]:
        found = await admin.get("/certificates")
        return next(one for one in found["authorities"] if one["name"] == name)

    old = (await state())["current"]
    for early in ("issue", "finalize", "rollback"):
        error = await refused(step(early))
        assert error.code == "conflict"
    assert await step("start") == "trust_both"
    assert await certificates() == 2
    error = await refused(step("start"))
    assert (error.code, "`issue`" in str(error)) == ("conflict", True)
    assert await step("issue") == "issue_new"
    assert await step("rollback") == "standby"
    assert (await state())["current"] == old
    assert await certificates() == 1

    await step("start")
    await step("issue")
    new = (await state())["successor"]
    assert await step("finalize") == "standby"
    assert ((await state())["current"], (await state())["successor"]) == (new, None)
    assert new != old
    assert await desk.outcomes("authority.finalize") == ["deny", "allow", "ok"]


async def test_who_still_uses_the_old_authority_is_named_and_not_locked_out(desk: Desk, admin: AdminClient) -> None:
    path = route("authorities", "client", "rotation")
    await admin.post(path, {"step": "start"})
    await admin.post(path, {"step": "issue"})
    issued = desk.office.document.issued[0]
    desk.office.seen.note_issuer(issued.issuer_key_id, "demo", desk.clock())
    error = await refused(admin.post(path, {"step": "finalize"}))
    assert error.code == "needs_force"
    assert "demo" in str(error)
    assert "--force" in str(error)
    planned = await admin.post(path, {"step": "finalize", "force": True}, plan=True)
    assert planned["stragglers"] == ["demo"]
    (client,) = [one for one in (await admin.get("/certificates"))["authorities"] if one["name"] == "client"]
    assert (client["phase"], client["stragglers"]) == ("issue_new", ["demo"])

    desk.clock.ahead = timedelta(days=8)
    assert (await admin.post(path, {"step": "finalize"}))["phase"] == "standby", "a week ago is long enough"
    states = {one["state"] for one in (await admin.get("/certificates"))["issued"]}
    assert states == {"untrusted"}


async def test_forcing_locks_them_out(desk: Desk, admin: AdminClient) -> None:
    path = route("authorities", "client", "rotation")
    await admin.post(path, {"step": "start"})
    await admin.post(path, {"step": "issue"})
    renewed = await admin.post(route("clients", "demo", "renew"))
    desk.office.seen.note_issuer(desk.office.document.issued[0].issuer_key_id, "demo", desk.clock())
    assert (await admin.post(path, {"step": "finalize", "force": True}))["stragglers"] == ["demo"]
    states = [one["state"] for one in (await admin.get("/certificates"))["issued"]]
    assert states == ["untrusted", "valid"]
    assert "client.crt" in renewed["files"]


async def test_an_authority_or_a_step_that_is_none(admin: AdminClient) -> None:
    for name in ("root", "client/x", "..%2fclient"):
        error = await refused(admin.get(route("authorities", name)))
        assert error.code == "not_found"
        assert "server, client, admin" in str(error)
    assert (await refused(admin.post(route("authorities", "client", "rotation"), {"step": "finish"}))).code == "invalid"


async def test_while_two_authorities_are_trusted_the_revocation_list_is_of_both(admin: AdminClient) -> None:
    old = (await admin.get("/certificates"))["issued"][0]
    await admin.post("/certificates/revoke", {"certificate": old["serial"]})
    for step in ("start", "issue"):
        await admin.post(route("authorities", "client", "rotation"), {"step": step})
    await admin.post(route("clients", "demo", "renew"))
    new = (await admin.get("/certificates"))["issued"][1]
    await admin.post("/certificates/revoke", {"certificate": new["serial"]})
    crl = await admin.get("/crl")
    blocks = crl["pem"].split("-----BEGIN X509 CRL-----")[1:]
    lists = [x509.load_pem_x509_crl(("-----BEGIN X509 CRL-----" + block).encode()) for block in blocks]
    assert crl["entries"] == 2
    assert [{f"{entry.serial_number:x}" for entry in one} for one in lists] == [
        {old["serial"].lstrip("0")},
        {new["serial"].lstrip("0")},
    ]


async def test_others_have_their_turn_while_a_revocation_list_is_signed(desk: Desk) -> None:
    """With many revocations that takes seconds."""
    call = Call(
        route=next(route for route in ROUTES if route.handler == give_crl),
        administrator=Administrator("anna", ALL_ROLES, 1001),
        site=desk.site,
        match={},
        query={},
        body=None,
        expected=None,
        plan=False,
        connected_at=desk.office.now(),
    )
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "another's")
    await give_crl(call)
    assert turns


# Revocation lists of authorities elsewhere.


def revocation_list(
    ca: ForeignCa, number: int, serials: tuple[int, ...] = (), *, age: timedelta = timedelta(), life: timedelta = DAY
) -> str:
    now = datetime.now(UTC) - age
    builder = x509.CertificateRevocationListBuilder(ca.name, now, now + life)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        )
    builder = builder.add_extension(x509.CRLNumber(number), critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
    )
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def test_a_revocation_list_counts_at_once_and_never_goes_back(named: Desk) -> None:
    async with named.client() as admin:
        assert (await admin.get("/certificates"))["trusted"][0]["subject"] == "CN=Site Client CA"
        first = await admin.post("/crls", {"crl": revocation_list(EXTERNAL, 5, (77, 78), age=DAY / 2)})
        assert (first["crl"]["number"], first["crl"]["entries"]) == (5, 2)
        (shown,) = (await admin.get("/certificates"))["crls"]
        assert shown == first["crl"]
        (crl,) = named.office.access.view.crls.values()
        assert set(crl.serials) == {77, 78}
        error = await refused(admin.post("/crls", {"crl": revocation_list(EXTERNAL, 4)}))
        assert error.code == "invalid"
        second = await admin.post("/crls", {"crl": revocation_list(EXTERNAL, 6)}, plan=True)
        assert second["crl"]["number"] == 6
        assert (await admin.get("/certificates"))["crls"] == [first["crl"]]


async def test_a_revocation_list_of_a_stranger_or_none_at_all(named: Desk, state: StateDir) -> None:
    async with named.client() as admin:
        stranger = ForeignCa("Site Client CA")
        assert x509.NameAttribute(NameOID.COMMON_NAME, "Site Client CA") in stranger.name
        for crl in (revocation_list(stranger, 9), revocation_list(EXTERNAL, 9, age=-3 * DAY), "hello", ""):
            assert (await refused(admin.post("/crls", {"crl": crl}))).code == "invalid"
        assert (await admin.get("/certificates"))["crls"] == []
