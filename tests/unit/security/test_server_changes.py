"""appliance.security.server_changes"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.access_config import Certificates, Listener
from appliance.config import Config
from appliance.errors import ChangeRefused, StateError
from appliance.security.access_view import AccessView, ConfiguredAccess
from appliance.security.ca_changes import finalize_rotation, issue_from_successor, start_rotation
from appliance.security.credentials import Credentials, StoredPair
from appliance.security.external import Trust
from appliance.security.issuing import make_authority, make_server, server_trust_pem
from appliance.security.private_keys import key_from_der
from appliance.security.server_changes import (
    activate_server,
    import_server,
    request_server,
    roll_back_server,
    show_server,
    stage_server,
)
from appliance.security.tls import server_context
from tests.security.authorities import ForeignCa, openssl
from tests.unit.security.making import DAY, NAMES, NOW, PROFILES, founded

SITE = ("llm.example", "192.0.2.7")


def another(document: Credentials) -> StoredPair:
    return make_server(document, PROFILES, NAMES, NOW)


def test_staged_then_active_then_previous() -> None:
    document = founded()
    first, second, third = document.server.active, another(document), another(document)
    document = stage_server(stage_server(document, third), second)
    assert (document.server.active, document.server.staged) == (first, second), "the later one replaces the earlier"
    document = activate_server(document)
    assert (document.server.active, document.server.staged, document.server.previous) == (second, None, first)
    with pytest.raises(ChangeRefused, match="no server certificate is staged") as caught:
        activate_server(document)
    assert caught.value.code == "conflict"


def test_the_way_back_and_forth() -> None:
    document = founded()
    with pytest.raises(ChangeRefused, match="no previous server certificate"):
        roll_back_server(document)
    first, second = document.server.active, another(document)
    document = activate_server(stage_server(document, second))
    for _ in range(2):
        document = roll_back_server(document)
        assert (document.server.active, document.server.previous) == (first, second)
        document = roll_back_server(document)
        assert (document.server.active, document.server.previous) == (second, first)


def test_no_certificate_of_an_authority_that_was_replaced_is_shown_again() -> None:
    first = founded()
    document = stage_server(first, another(first))
    successor = make_authority(PROFILES, "server", document.appliance_id, NOW)
    document = issue_from_successor(start_rotation(document, "server", successor, NOW), "server", NOW)
    document = show_server(document, another(document))
    assert roll_back_server(document).server.active == first.server.active, "the old authority is still trusted"
    document = finalize_rotation(document, "server", [], NOW, force=False)
    for change in (roll_back_server, activate_server):
        with pytest.raises(ChangeRefused, match=r"was replaced.*`appliance certs renew server`") as caught:
            change(document)
        assert caught.value.code == "conflict"


def test_one_that_is_shown_at_once_leaves_what_is_staged() -> None:
    document, _ = request_server(founded(), SITE)
    staged, fresh = another(document), another(document)
    document = show_server(stage_server(document, staged), fresh)
    server = document.server
    assert (server.active, server.staged, server.previous) == (fresh, staged, founded().server.active)
    assert server.requested is not None, "nor does it end a request"


# A certificate made elsewhere.


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


ROOT, OTHER_ROOT = ForeignCa("Site Root"), ForeignCa("Another Root")
MIDDLE = ForeignCa("Site Servers", issuer=ROOT)
TRUST = Trust((ROOT.certificate, OTHER_ROOT.certificate), ())


def requested(names: Sequence[str] = SITE) -> tuple[Credentials, x509.CertificateSigningRequest]:
    document, csr = request_server(founded(), names)
    return document, x509.load_pem_x509_csr(csr)


def take(
    document: Credentials, *chain: x509.Certificate, trust: Trust = TRUST, names: Sequence[str] = SITE
) -> Credentials:
    return import_server(document, pem(*chain), names, trust, NOW)


def test_the_request_asks_for_the_names_and_keeps_its_key_here(tmp_path: Path) -> None:
    document, csr = requested()
    assert document.server.requested is not None
    assert key_from_der(document.server.requested).public_key() == csr.public_key()
    assert csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    (tmp_path / "server.csr").write_bytes(csr.public_bytes(Encoding.PEM))
    code, said = openssl("req", "-in", tmp_path / "server.csr", "-noout", "-verify", "-text")
    assert code == 0
    assert "DNS:llm.example" in said
    assert "IP Address:192.0.2.7" in said
    assert b"PRIVATE" not in csr.public_bytes(Encoding.PEM)


def test_a_chain_that_openssl_made_is_staged_and_serves(tmp_path: Path) -> None:
    """The operator's way: root, intermediate and server certificate by openssl, from our request."""
    document, csr = requested()
    (tmp_path / "server.csr").write_bytes(csr.public_bytes(Encoding.PEM))
    (tmp_path / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
    (tmp_path / "server.ext").write_text(
        "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:llm.example,IP:192.0.2.7\nkeyUsage=critical,digitalSignature\n"
    )

    def run(*arguments: str | Path) -> None:
        code, said = openssl(*arguments)
        assert code == 0, said

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    root, middle, server = (tmp_path / name for name in ("root", "middle", "server"))
    run(
        "req", "-x509", *new_key, "-keyout", root.with_suffix(".key"), "-out", root.with_suffix(".crt"), "-days", "30",
        "-subj", "/CN=openssl root", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    run(
        "req", *new_key, "-keyout", middle.with_suffix(".key"), "-out", middle.with_suffix(".csr"),
        "-subj", "/CN=openssl servers",
    )  # fmt: skip
    for below, above, extensions in ((middle, root, "ca.ext"), (server, middle, "server.ext")):
        run(
            "x509", "-req", "-in", below.with_suffix(".csr"), "-out", below.with_suffix(".crt"), "-days", "20",
            "-CA", above.with_suffix(".crt"), "-CAkey", above.with_suffix(".key"), "-CAcreateserial",
            "-extfile", tmp_path / extensions,
        )  # fmt: skip
    chain = b"".join(part.with_suffix(".crt").read_bytes() for part in (server, middle, root))
    document = import_server(document, chain, SITE, Trust((), ()), datetime.now(UTC))
    pair = document.server.staged
    assert pair is not None
    assert len(pair.chain) == 2
    assert document.server.requested is None
    assert document.server.active == founded().server.active
    for name in SITE:
        server_context(pair, [name], None)


@pytest.mark.parametrize("trust", [TRUST, Trust((OTHER_ROOT.certificate, ROOT.certificate), ())], ids=["first", "last"])
def test_stored_is_what_the_certificate_hangs_from_and_no_more(trust: Trust) -> None:
    """Clients are given the last link to verify us with; a stranger there locks them all out."""
    document, csr = requested()
    leaf = MIDDLE.server(csr.public_key(), SITE)
    unrelated = ForeignCa("Unrelated", issuer=ROOT).certificate
    document = activate_server(take(document, leaf, unrelated, MIDDLE.certificate, trust=trust))
    links = [x509.load_der_x509_certificate(link) for link in document.server.active.chain]
    assert links == [MIDDLE.certificate, ROOT.certificate]
    assert server_trust_pem(document).endswith(pem(ROOT.certificate))
    assert pem(OTHER_ROOT.certificate) not in server_trust_pem(document)


def test_a_certificate_directly_below_a_trusted_root() -> None:
    document, csr = requested()
    document = take(document, ROOT.server(csr.public_key(), SITE))
    assert document.server.staged is not None
    assert [x509.load_der_x509_certificate(link) for link in document.server.staged.chain] == [ROOT.certificate]


def test_without_trust_the_chain_ends_in_its_own_root() -> None:
    document, csr = requested()
    leaf, nobody = MIDDLE.server(csr.public_key(), SITE), Trust((), ())
    staged = take(document, leaf, MIDDLE.certificate, ROOT.certificate, trust=nobody).server.staged
    assert staged is not None
    assert len(staged.chain) == 2
    for chain in ((leaf,), (leaf, MIDDLE.certificate)):
        with pytest.raises(ChangeRefused, match="no chain to a trusted root"):
            take(document, *chain, trust=nobody)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda key: ROOT.server(ROOT.key.public_key(), SITE), "does not belong to the private key"),
        (lambda key: ROOT.server(key, ["llm.example"]), "does not name 192.0.2.7"),
        (lambda key: ROOT.server(key, SITE, purpose=ExtendedKeyUsageOID.CLIENT_AUTH), "is not for servers"),
        (lambda key: ROOT.server(key, SITE, valid=(-9 * DAY, -DAY)), "expired on"),
        (lambda key: ROOT.server(key, SITE, valid=(DAY, 9 * DAY)), "is not valid before"),
        (lambda key: ForeignCa("Stranger").server(key, SITE), "no chain to a trusted root"),
        (lambda key: MIDDLE.server(key, SITE), "no chain to a trusted root"),
    ],
    ids=["another's key", "name missing", "for clients", "expired", "not yet", "stranger", "no intermediate"],
)
def test_a_certificate_that_would_not_serve_is_refused_and_the_request_stays_open(make: object, fault: str) -> None:
    document, csr = requested()
    with pytest.raises(ChangeRefused, match=fault) as caught:
        take(document, make(csr.public_key()))  # type: ignore[operator]
    assert caught.value.code == "invalid"
    assert take(document, ROOT.server(csr.public_key(), SITE)).server.staged is not None


def test_every_fault_is_named_at_once() -> None:
    document, _ = requested()
    wrong = ROOT.server(ROOT.key.public_key(), ["elsewhere.example"], purpose=None, valid=(-9 * DAY, -DAY))
    with pytest.raises(ChangeRefused) as caught:
        take(document, wrong)
    for fault in ("private key", "does not name", "is not for servers", "expired"):
        assert fault in caught.value.message


@pytest.mark.parametrize("junk", [b"", b"junk", pem(ROOT.certificate)[:100]], ids=["empty", "junk", "cut"])
def test_what_is_no_chain_is_refused(junk: bytes) -> None:
    document, _ = requested()
    with pytest.raises(ChangeRefused) as caught:
        import_server(document, junk, SITE, TRUST, NOW)
    assert caught.value.code == "invalid"


def test_only_the_latest_request_counts_and_once() -> None:
    with pytest.raises(ChangeRefused, match="no signing request is open"):
        take(founded(), ROOT.server(ROOT.key.public_key(), SITE))
    document, first = requested()
    document, second = request_server(document, SITE)
    with pytest.raises(ChangeRefused, match="latest request"):
        take(document, ROOT.server(first.public_key(), SITE))
    leaf = ROOT.server(x509.load_pem_x509_csr(second).public_key(), SITE)
    document = take(document, leaf)
    with pytest.raises(ChangeRefused, match="no signing request is open"):
        take(document, leaf)


# In a view.


def site_config(folder: Path, *names: str) -> ConfiguredAccess:
    (folder / "root.pem").write_bytes(pem(ROOT.certificate))
    config = Config(
        listeners={"api": Listener(names=names)}, certificates=Certificates(client_ca="external", trust=("root.pem",))
    )
    return ConfiguredAccess.load(config, folder, NOW)


@pytest.mark.parametrize("names", [SITE, ("*.example", "llm.example")], ids=["plain", "wildcard first"])
def test_an_imported_certificate_makes_a_view(tmp_path: Path, names: tuple[str, ...]) -> None:
    configured = site_config(tmp_path, *names)
    document, csr = requested(configured.own_names)
    document = activate_server(take(document, ROOT.server(csr.public_key(), names), names=configured.own_names))
    view = AccessView.build(configured, document)
    assert view.contexts["api"].get_ca_certs()[0]["subject"] == ((("commonName", "Site Root"),),)


def test_a_name_that_an_imported_certificate_does_not_cover_makes_no_view(tmp_path: Path) -> None:
    configured = site_config(tmp_path, "llm.example")
    document, csr = requested(["llm.example"])
    document = activate_server(take(document, ROOT.server(csr.public_key(), ["llm.example"]), names=["llm.example"]))
    view = AccessView.build(configured, document)
    with pytest.raises(StateError, match="no TLS"):
        AccessView.build(site_config(tmp_path, "other.example", "llm.example"), document, view)
