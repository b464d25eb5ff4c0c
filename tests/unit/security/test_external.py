"""appliance.security.external, with openssl as an independent judge"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.certificates import certificate_pem
from appliance.security.external import (
    AUTHORITIES_MAX,
    FILE_BYTES_MAX,
    Trust,
    check_imported_server_certificate,
    parse_chain,
    parse_trust,
)
from appliance.security.private_keys import key_pem, new_key
from appliance.security.signing_request import make_csr
from tests.security.authorities import DAY, ForeignCa, client_csr, key_usage, openssl, rsa_key, subject

NOW = datetime.now(UTC)
ROOT = ForeignCa("Site Root")
MIDDLE = ForeignCa("Site Issuing CA", issuer=ROOT)
KEY = new_key()
NAMES = ["llm.example", "10.1.2.3"]


def pem(*certificates: x509.Certificate | ForeignCa) -> bytes:
    plain = [entry.certificate if isinstance(entry, ForeignCa) else entry for entry in certificates]
    return b"".join(certificate_pem(certificate) for certificate in plain)


def trust(*authorities: ForeignCa) -> Trust:
    return parse_trust({"trust.pem": pem(*authorities)}, NOW)


class TestTrust:
    def test_several_authorities_in_several_files(self) -> None:
        other = ForeignCa("Other Root", key=rsa_key(), digest=hashes.SHA512())
        found = parse_trust({"a.pem": b"# our CAs\n" + pem(ROOT, MIDDLE), "b.pem": pem(other, ROOT)}, NOW)
        assert [entry.subject for entry in found.authorities] == [ROOT.name, MIDDLE.name, other.name]
        assert found.warnings == ()
        assert found.pem == pem(ROOT, MIDDLE, other)

    @pytest.mark.parametrize(
        "key", [ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()], ids=["P-521", "Ed25519"]
    )
    def test_other_strong_keys(self, key: ec.EllipticCurvePrivateKey) -> None:
        assert len(trust(ForeignCa(key=key)).authorities) == 1

    @pytest.mark.parametrize(
        ("make", "sentence"),
        [
            (lambda: ROOT.server(KEY.public_key(), NAMES), r"\(CN=llm\.example\) is no authority"),
            (
                lambda: ForeignCa(extensions=[]),
                r"\(CN=Site Root\) is no authority \(no basicConstraints CA:TRUE\)",
            ),
            (lambda: ForeignCa(extensions=[x509.BasicConstraints(ca=False, path_length=None)]), "is no authority"),
            (
                lambda: ForeignCa(extensions=[x509.BasicConstraints(ca=True, path_length=None)]),
                "no subject key identifier",
            ),
            (
                lambda: ForeignCa(
                    extensions=[x509.BasicConstraints(ca=True, path_length=None), key_usage(crl_sign=True)]
                ),
                "may not sign certificates",
            ),
            (
                lambda: ForeignCa(extensions=[x509.UnrecognizedExtension(x509.KeyUsage.oid, b"\xff")]),
                "extensions that cannot be read",
            ),
            (lambda: ForeignCa(key=rsa_key(1024)), "RSA key of 1024 bits; 2048 is the least"),
            (lambda: ForeignCa(key=ec.generate_private_key(ec.SECP224R1())), "curve secp224r1"),
        ],
        ids=["leaf", "no constraints", "CA:FALSE", "no SKI", "no keyCertSign", "unreadable", "RSA 1024", "P-224"],
    )
    def test_what_is_not_trusted(self, make: object, sentence: str) -> None:
        assert callable(make)
        with pytest.raises(ValueError, match=f"trust.pem: certificate 2.*{sentence}"):
            parse_trust({"trust.pem": pem(ROOT, make())}, NOW)

    def test_sha_1_is_not_trusted(self, tmp_path: Path) -> None:
        """Made by openssl: the library signs nothing with SHA-1 any more."""
        (tmp_path / "key.pem").write_bytes(key_pem(KEY))
        status, output = openssl("req", "-x509", "-sha1", "-key", tmp_path / "key.pem", "-subj", "/CN=Old Root", "-out",
                                 tmp_path / "ca.pem", "-days", "30")  # fmt: skip
        assert status == 0, output
        with pytest.raises(ValueError, match=r"\(CN=Old Root\) is signed with SHA1, which is not safe"):
            parse_trust({"trust.pem": (tmp_path / "ca.pem").read_bytes()}, NOW)

    def test_expired_ones_are_reported_and_left_out(self) -> None:
        old = ForeignCa("Old Root", valid=(-2 * DAY, -DAY))
        found = trust(old, ROOT)
        assert [entry.subject for entry in found.authorities] == [ROOT.name]
        assert found.warnings == (
            f"trust.pem: certificate 1 (CN=Old Root) expired on {NOW - DAY:%Y-%m-%d} and is left out",
        )
        with pytest.raises(ValueError, match=r"no authority is left to trust; .*Old Root\) expired"):
            trust(old)

    def test_one_of_tomorrow_is_reported_and_kept(self) -> None:
        found = trust(ForeignCa("New Root", valid=(DAY, 9 * DAY)))
        assert len(found.authorities) == 1
        assert "is not valid before" in found.warnings[0]

    def test_an_intermediate_alone_hangs_in_the_air(self) -> None:
        with pytest.raises(ValueError, match=r"the issuer of CN=Site Issuing CA is not among .*: add CN=Site Root, up"):
            trust(MIDDLE)

    def test_an_intermediate_of_a_root_with_the_same_name(self) -> None:
        with pytest.raises(ValueError, match="did not sign it"):
            trust(MIDDLE, ForeignCa("Site Root"))

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (b"", "holds no certificate in PEM form"),
            (certificate_pem(ROOT.certificate)[:200], "cut short or damaged"),
            (pem(ROOT, MIDDLE)[:-40], "cut short or damaged"),
            (pem(ROOT) + b"-----BEGIN CERTIFICATE-----\n" + pem(MIDDLE), "cut short or damaged"),
            (pem(ROOT) + key_pem(KEY), "holds a private key; remove it"),
            (pem(ROOT) + client_csr(KEY, "x", "x://y"), "holds CERTIFICATE REQUEST"),
            (pem(ROOT).replace(b"M", b"N"), "certificate 1 cannot be read"),
            (b"#" * (FILE_BYTES_MAX + 1), "larger than"),
            (ROOT.certificate.public_bytes(Encoding.DER), "no certificate in PEM form"),
        ],
    )  # fmt: skip
    def test_damaged_files(self, data: bytes, sentence: str) -> None:
        with pytest.raises(ValueError, match=f"^trust.pem.*{sentence}"):
            parse_trust({"trust.pem": data}, NOW)

    def test_no_file(self) -> None:
        with pytest.raises(ValueError, match="no authority is left"):
            parse_trust({}, NOW)

    def test_too_many(self) -> None:
        many = [ForeignCa(f"Root {number}", key=KEY) for number in range(AUTHORITIES_MAX + 1)]
        with pytest.raises(ValueError, match="65 authorities are more than 64"):
            trust(*many)

    @given(st.data())
    def test_damage_is_never_more_than_a_value_error(self, data: st.DataObject) -> None:
        text = bytearray(pem(ROOT, MIDDLE))
        begin = data.draw(st.integers(0, len(text)))
        text[begin : begin + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
        try:
            found = parse_trust({"trust.pem": bytes(text)}, NOW)
        except ValueError:
            return
        assert {entry.subject for entry in found.authorities} <= {ROOT.name, MIDDLE.name}


def faults(
    *chain: x509.Certificate | ForeignCa, names: Sequence[str] = NAMES, trusted: Trust | None = None
) -> tuple[str, ...]:
    return check_imported_server_certificate(pem(*chain), KEY, names, trusted or trust(ROOT), NOW)


class TestImportedServerCertificate:
    def test_a_good_one(self, tmp_path: Path) -> None:
        leaf = MIDDLE.server(KEY.public_key(), NAMES)
        assert faults(leaf, MIDDLE) == ()
        assert faults(ROOT.server(KEY.public_key(), NAMES)) == ()
        for name, content in (("root", pem(ROOT)), ("middle", pem(MIDDLE)), ("leaf", pem(leaf))):
            (tmp_path / name).write_bytes(content)
        status, output = openssl("verify", "-purpose", "sslserver", "-verify_hostname", NAMES[0], "-CAfile",
                                 tmp_path / "root", "-untrusted", tmp_path / "middle", tmp_path / "leaf")  # fmt: skip
        assert status == 0, output

    @pytest.mark.parametrize(
        ("make", "fault"),
        [
            (lambda: ROOT.server(new_key().public_key(), NAMES), "does not belong to the private key"),
            (
                lambda: ROOT.server(KEY.public_key(), NAMES, purpose=ExtendedKeyUsageOID.CLIENT_AUTH),
                "is not for servers",
            ),
            (lambda: ROOT.server(KEY.public_key(), NAMES, purpose=None), "is not for servers"),
            (
                lambda: ROOT.server(KEY.public_key(), NAMES, more=[key_usage(key_agreement=True)]),
                "keyUsage without digitalSignature",
            ),
            (
                lambda: ROOT.server(
                    KEY.public_key(), NAMES, more=[x509.BasicConstraints(ca=True, path_length=None)]
                ),
                "is an authority's",
            ),
            (lambda: ROOT.server(KEY.public_key(), NAMES[:1]), "does not name 10.1.2.3."),
            (lambda: ROOT.server(KEY.public_key(), []), "does not name llm.example, 10.1.2.3."),
            (lambda: ROOT.server(KEY.public_key(), NAMES, valid=(-2 * DAY, -DAY)), "expired on"),
            (lambda: ROOT.server(KEY.public_key(), NAMES, valid=(DAY, 2 * DAY)), "is not valid before"),
            (
                lambda: ForeignCa("Site Root").server(KEY.public_key(), NAMES),
                "no chain to a trusted root: CN=Site Root is missing in the chain, or did not sign it",
            ),
            (lambda: MIDDLE.server(KEY.public_key(), NAMES), "CN=Site Issuing CA is missing in the chain"),
            (
                lambda: ROOT.sign(subject("x"), KEY.public_key(), [x509.UnrecognizedExtension(x509.KeyUsage.oid, b"")]),
                "cannot be used",
            ),
        ],
        ids=["another key", "for clients", "no EKU", "no digitalSignature", "CA", "a name missing", "no names",
             "expired", "tomorrow", "same name, other root", "no intermediate", "unreadable"],
    )  # fmt: skip
    def test_one_fault_is_one_sentence(self, make: object, fault: str) -> None:
        assert callable(make)
        (sentence,) = faults(make())
        assert sentence.startswith("The server certificate ")
        assert sentence.endswith(".")
        assert fault in sentence

    def test_all_faults_are_told_at_once(self) -> None:
        found = faults(ForeignCa("x").server(rsa_key(1024).public_key(), [], purpose=None, valid=(-2 * DAY, -DAY)))
        assert len(found) == 6

    def test_an_intermediate_must_be_valid_too(self) -> None:
        expired = ForeignCa("M", issuer=ROOT, valid=(-2 * DAY, -DAY))
        assert "CN=M expired on" in faults(expired.server(KEY.public_key(), NAMES), expired)[0]
        weak = ForeignCa("M", issuer=ROOT, key=rsa_key(1024))
        assert "CN=M has an RSA key of 1024 bits" in faults(weak.server(KEY.public_key(), NAMES), weak)[0]
        leaf = ForeignCa("M", issuer=ROOT, extensions=[x509.BasicConstraints(ca=False, path_length=None)])
        assert "CN=M is no authority" in faults(leaf.server(KEY.public_key(), NAMES), leaf)[0]

    def test_path_lengths(self) -> None:
        root = ForeignCa("Root 0", path_length=0)
        middle = ForeignCa("M", issuer=root)
        assert faults(root.server(KEY.public_key(), NAMES), trusted=trust(root)) == ()
        (sentence,) = faults(middle.server(KEY.public_key(), NAMES), middle, trusted=trust(root))
        assert "too long: CN=Root 0 allows 0 intermediates" in sentence

    def test_a_circle_has_an_end(self) -> None:
        one, two = ForeignCa("A"), ForeignCa("B")
        crossed = [
            two.sign(one.name, one.key.public_key(), [*(extension.value for extension in one.certificate.extensions)]),
            one.sign(two.name, two.key.public_key(), [*(extension.value for extension in two.certificate.extensions)]),
        ]
        (sentence,) = faults(one.server(KEY.public_key(), NAMES), *crossed)
        assert "more than 8" in sentence

    @pytest.mark.parametrize(
        ("covered", "asked", "right"),
        [
            ("*.example", "llm.example", True),
            ("*.example", "LLM.Example", True),
            ("*.example", "a.llm.example", False),
            ("*.example", "example", False),
            ("*.example", "*.example", True),
            ("llm.example", "*.example", False),
            ("LLM.example", "llm.example", True),
            ("::1", "0:0:0:0:0:0:0:1", True),
            ("10.1.2.3", "10.1.2.4", False),
        ],
    )
    def test_names_that_are_covered(self, covered: str, asked: str, right: bool) -> None:
        assert (faults(ROOT.server(KEY.public_key(), [covered]), names=[asked]) == ()) is right

    def test_a_chain_has_a_limit(self) -> None:
        with pytest.raises(ValueError, match="the chain has 9 certificates, more than 8"):
            parse_chain(pem(*[ROOT] * 9))
        assert (
            "cannot be used: the chain holds no certificate"
            in check_imported_server_certificate(b"", KEY, NAMES, trust(ROOT), NOW)[0]
        )

    def test_the_certificate_of_our_own_request(self) -> None:
        """The whole way: request, signature elsewhere, import."""
        request = x509.load_pem_x509_csr(make_csr(KEY, NAMES))
        assert faults(ROOT.sign(request.subject, request.public_key(), [e.value for e in request.extensions])) == ()

    def test_time_is_an_argument(self) -> None:
        leaf = pem(ROOT.server(KEY.public_key(), NAMES))
        late = NOW + timedelta(days=91)
        assert "expired" in check_imported_server_certificate(leaf, KEY, NAMES, trust(ROOT), late)[0]
