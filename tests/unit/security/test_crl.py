"""appliance.security.crl, with openssl as an independent judge"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from appliance.security.certificate_facts import own_key_id
from appliance.security.certificates import KeyPair, certificate_pem, issue_client
from appliance.security.crl import (
    CRL_BYTES_MAX,
    ENTRIES_MAX,
    Crl,
    accept,
    expired,
    make_crl,
    parse_crl,
)
from appliance.security.private_keys import key_pem
from tests.security.authorities import DAY, PROFILES, Digest, ForeignCa, key_usage, openssl, own_ca, rsa_key

NOW = datetime.now(UTC).replace(microsecond=0)
SECOND = timedelta(seconds=1)
CA = own_ca("CA", NOW)
SITE = ForeignCa("Site Root")
ANOTHER = x509.CertificateIssuer([x509.DirectoryName(CA.certificate.subject)])
ISSUERS = [CA.certificate, SITE.certificate]


def revoked(serial: int, *extensions: tuple[x509.ExtensionType, bool]) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.build()


def foreign(
    *entries: x509.RevokedCertificate,
    ca: ForeignCa = SITE,
    number: int | None = 7,
    valid: tuple[timedelta, timedelta] = (-SECOND, DAY),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    name: x509.Name | None = None,
    digest: Digest | None = None,
) -> bytes:
    """A list (DER) of somebody else's authority."""
    builder = x509.CertificateRevocationListBuilder(
        name or ca.name, NOW + valid[0], NOW + valid[1], revoked_certificates=list(entries)
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(ca.key, digest or ca.digest).public_bytes(Encoding.DER)


def distribution(**scope: object) -> tuple[x509.ExtensionType, bool]:
    values: dict[str, object] = {
        "full_name": None, "relative_name": None, "only_contains_user_certs": False, "only_contains_ca_certs": False,
        "only_some_reasons": None, "indirect_crl": False, "only_contains_attribute_certs": False,
    }  # fmt: skip
    return x509.IssuingDistributionPoint(**(values | scope)), True  # type: ignore[arg-type]


def own(serials: Sequence[int], number: int = 1, next_update: datetime = NOW + 30 * DAY) -> bytes:
    return make_crl(CA, dict.fromkeys(serials, NOW), number, NOW, next_update)


class TestParse:
    def test_our_own_list(self) -> None:
        crl = parse_crl(own([1, 2**158 + 1, 300], 4), ISSUERS, NOW)
        assert crl == Crl(own_key_id(CA.certificate), 4, NOW, NOW + 30 * DAY, frozenset({1, 2**158 + 1, 300}))

    def test_a_foreign_list_in_both_forms(self) -> None:
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise), False
        der = foreign(revoked(5, reason), revoked(6), extensions=[distribution(only_contains_user_certs=True)])
        crl = parse_crl(der, ISSUERS, NOW)
        assert (crl.issuer_key_id, crl.number, crl.serials) == (own_key_id(SITE.certificate), 7, frozenset({5, 6}))
        pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
        assert parse_crl(b"# from the site\n" + pem, ISSUERS, NOW) == crl

    def test_an_empty_list(self) -> None:
        assert parse_crl(foreign(), ISSUERS, NOW).serials == frozenset()

    @pytest.mark.parametrize("key", [rsa_key(), ed25519.Ed25519PrivateKey.generate()], ids=["RSA", "Ed25519"])
    def test_other_keys(self, key: ed25519.Ed25519PrivateKey) -> None:
        ca = ForeignCa(key=key)
        assert parse_crl(foreign(ca=ca), [ca.certificate], NOW).number == 7

    def test_a_renewed_authority_keeps_its_name(self) -> None:
        renewed = ForeignCa("Site Root")
        crl = parse_crl(foreign(ca=renewed), [SITE.certificate, renewed.certificate], NOW)
        assert crl.issuer_key_id == own_key_id(renewed.certificate)

    def test_an_expired_list_is_read(self) -> None:
        assert expired(parse_crl(foreign(valid=(-2 * DAY, -DAY)), ISSUERS, NOW), NOW)

    @pytest.mark.parametrize(
        ("make", "sentence"),
        [
            (lambda: foreign(ca=ForeignCa("Stranger")), "is of CN=Stranger, which is not trusted"),
            (lambda: foreign(ca=ForeignCa("Site Root")), "names CN=Site Root but was not signed by it"),
            (lambda: foreign(ca=ForeignCa(), name=CA.certificate.subject), "names CN=CA but was not signed by it"),
            (lambda: foreign(digest=hashes.SHA224()), "is signed with SHA224, which is not safe"),
            (lambda: foreign(number=None), "has no number"),
            (lambda: foreign(valid=(2 * DAY, 3 * DAY)), "in the future; compare the clocks"),
            (lambda: foreign(extensions=[(x509.DeltaCRLIndicator(3), True)]), "is a delta; import the complete one"),
            (lambda: foreign(extensions=[distribution(indirect_crl=True)]), "is indirect"),
            (lambda: foreign(extensions=[distribution(only_contains_ca_certs=True)]), "not about all clients"),
            (lambda: foreign(extensions=[distribution(only_contains_attribute_certs=True)]), "not about all clients"),
            (
                lambda: foreign(
                    extensions=[distribution(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}))]
                ),
                "not about all reasons",
            ),
            (
                lambda: foreign(
                    extensions=[distribution(full_name=[x509.UniformResourceIdentifier("http://site/1.crl")])]
                ),
                "one part of several",
            ),
            (
                lambda: foreign(
                    extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True)]
                ),
                "unknown critical extension 1.2.3",
            ),
            (
                lambda: foreign(revoked(10), revoked(11, (x509.CRLReason(x509.ReasonFlags.remove_from_crl), False))),
                r"entry b takes a revocation back \(removeFromCRL\)",
            ),
            (
                lambda: foreign(revoked(11, (ANOTHER, True))),
                "entry b names another issuer",
            ),
            (
                lambda: foreign(revoked(11, (ANOTHER, False))),
                "entry b names another issuer",
            ),
            (
                lambda: foreign(
                    revoked(11, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True))
                ),
                "entry b has an unknown critical extension 1.2.3",
            ),
            (lambda: b"", "cannot be read"),
            (lambda: certificate_pem(CA.certificate), "cannot be read"),
            (lambda: own([1])[:-40], "cannot be read"),
            (lambda: own([1]) + own([2]), "holds 2 revocation lists"),
            (lambda: bytes(CRL_BYTES_MAX + 1), "larger than"),
        ],
        ids=["stranger", "its name, another key", "our name, its key", "SHA-224", "no number", "future", "delta",
             "indirect", "CAs only", "attributes only", "some reasons", "one part", "critical", "removeFromCRL",
             "other issuer", "other issuer, not critical", "critical entry", "empty", "certificate", "cut short", "two",
             "large"],
    )  # fmt: skip
    def test_what_is_refused(self, make: object, sentence: str) -> None:
        assert callable(make)
        with pytest.raises(ValueError, match=sentence):
            parse_crl(make(), ISSUERS, NOW)

    def test_an_authority_that_may_not_sign_lists(self) -> None:
        ca = ForeignCa(extensions=[x509.BasicConstraints(ca=True, path_length=None), key_usage(key_cert_sign=True)])
        with pytest.raises(ValueError, match="may not sign revocation lists"):
            parse_crl(foreign(ca=ca), [ca.certificate], NOW)

    def test_a_critical_reason_is_a_reason(self) -> None:
        der = foreign(revoked(5, (x509.CRLReason(x509.ReasonFlags.superseded), True)))
        assert parse_crl(der, ISSUERS, NOW).serials == {5}

    @pytest.mark.filterwarnings("ignore:Attribute's length")
    @given(st.data())
    def test_one_changed_byte_never_passes(self, data: st.DataObject) -> None:
        damaged = bytearray(LIST)
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
        with pytest.raises(ValueError, match="the revocation list"):
            parse_crl(bytes(damaged), ISSUERS, NOW)

    def test_lists_of_the_openssl_command_line(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_bytes(certificate_pem(SITE.certificate))
        (tmp_path / "key.pem").write_bytes(key_pem(SITE.key))  # type: ignore[arg-type]
        (tmp_path / "index.txt").write_text("R\t400101000000Z\t260101000000Z,keyCompromise\t0ABC\tunknown\t/CN=x\n")
        (tmp_path / "crlnumber").write_text("2A\n")
        (tmp_path / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={tmp_path}/index.txt\ncrlnumber={tmp_path}/crlnumber\n"
            f"default_md=sha256\ndefault_crl_days=30\nprivate_key={tmp_path}/key.pem\ncertificate={tmp_path}/ca.pem\n"
        )
        status, output = openssl("ca", "-gencrl", "-config", tmp_path / "ca.cnf", "-out", tmp_path / "list.pem")
        assert status == 0, output
        crl = parse_crl((tmp_path / "list.pem").read_bytes(), ISSUERS, datetime.now(UTC))
        assert (crl.number, crl.serials) == (42, frozenset({0xABC}))


LIST = foreign(revoked(5), revoked(6, (x509.CRLReason(x509.ReasonFlags.key_compromise), False)))

A = Crl("aa", 5, NOW, NOW + DAY, frozenset({1, 2}))


def changed(number: int = 6, this_update: datetime = NOW + SECOND, serials: Sequence[int] = (1, 2, 3)) -> Crl:
    return Crl("aa", number, this_update, NOW + 2 * DAY, frozenset(serials))


class TestAccept:
    def test_the_first_and_a_newer_one(self) -> None:
        assert accept(None, A) is A
        assert accept(A, changed()) == changed()
        assert accept(A, changed(serials=[])) == changed(serials=[]), "an authority drops expired certificates"

    def test_a_higher_number_in_the_same_second_counts(self) -> None:
        assert accept(A, changed(this_update=NOW)).serials == {1, 2, 3}

    def test_the_same_one_again(self) -> None:
        assert accept(A, Crl("aa", 5, NOW, NOW + DAY, frozenset({2, 1}))) == A

    @pytest.mark.parametrize(
        ("new", "sentence"),
        [
            (changed(4), "has number 4; number 5 is in force already"),
            (changed(5), "has number 5 like the one in force, but says something else"),
            (changed(5, NOW, [1]), "has number 5 like the one in force, but says something else"),
            (changed(6, NOW - SECOND), "issued on .*, before the one in force"),
            (Crl("bb", 6, NOW + SECOND, NOW + DAY, frozenset()), "of another authority"),
        ],
        ids=["older number", "same number", "same number, same second", "older date", "another authority"],
    )
    def test_what_would_take_a_revocation_back(self, new: Crl, sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            accept(A, new)

    @given(
        st.lists(
            st.builds(
                lambda number, seconds, serials: changed(number, NOW + seconds * SECOND, serials),
                st.integers(0, 5), st.integers(0, 5), st.sets(st.integers(1, 3)),
            )
        )
    )  # fmt: skip
    def test_in_whatever_order_they_come_number_and_date_only_rise(self, lists: list[Crl]) -> None:
        current: Crl | None = None
        for new in lists:
            before = current
            try:
                current = accept(current, new)
            except ValueError:
                continue
            if before is not None:
                assert current.this_update >= before.this_update
                assert current == before or current.number > before.number


class TestMake:
    def check(self, folder: Path, pair: KeyPair, crl: bytes, *arguments: str) -> str:
        (folder / "ca.pem").write_bytes(certificate_pem(CA.certificate))
        (folder / "leaf.pem").write_bytes(certificate_pem(pair.certificate))
        (folder / "crl.pem").write_bytes(crl)
        status, output = openssl("verify", "-crl_check", "-x509_strict", "-CAfile", folder / "ca.pem", "-CRLfile",
                                 folder / "crl.pem", *arguments, folder / "leaf.pem")  # fmt: skip
        return "ok" if status == 0 else output

    def test_openssl_obeys_it(self, tmp_path: Path) -> None:
        good, bad = (issue_client(CA, "demo", "x://demo", PROFILES.client, NOW) for _ in range(2))
        crl = own([bad.certificate.serial_number])
        assert self.check(tmp_path, good, crl) == "ok"
        assert "certificate revoked" in self.check(tmp_path, bad, crl)
        late = str(int((NOW + 31 * DAY).timestamp()))
        assert "CRL has expired" in self.check(tmp_path, good, crl, "-attime", late)
        forged = x509.load_der_x509_crl(foreign(ca=ForeignCa(), name=CA.certificate.subject))
        assert "CRL signature failure" in self.check(tmp_path, good, forged.public_bytes(Encoding.PEM))

    def test_it_says_when_each_was_revoked(self, tmp_path: Path) -> None:
        when = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
        (tmp_path / "crl.pem").write_bytes(make_crl(CA, {0xABC: when}, 9, NOW, NOW + DAY))
        _, output = openssl("crl", "-in", tmp_path / "crl.pem", "-noout", "-text")
        assert "Serial Number: 0ABC" in output
        assert "Revocation Date: Feb  3 04:05:06 2026 GMT" in output
        assert "X509v3 CRL Number: \n                9" in output

    def test_an_empty_one(self, tmp_path: Path) -> None:
        assert self.check(tmp_path, issue_client(CA, "demo", "x://demo", PROFILES.client, NOW), own([])) == "ok"


@pytest.mark.slow
def test_twenty_thousand_entries() -> None:
    serials = [x509.random_serial_number() for _ in range(20_000)]
    crl = parse_crl(own(serials), ISSUERS, NOW)
    assert crl.serials == set(serials)


def test_more_entries_than_the_limit_do_not_fit_into_its_bytes() -> None:
    """The shortest entry takes 20 bytes: the limit of entries is the second fence, not the first."""
    assert ENTRIES_MAX * 20 > CRL_BYTES_MAX
