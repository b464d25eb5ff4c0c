"""Certificate authorities for tests, ours and foreign ones, and openssl as a judge of what they make."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.security.certificate_names import general_name
from appliance.security.certificates import KeyPair, new_ca
from appliance.security.profiles import Profiles

PROFILES = Profiles.shipped()
DAY = timedelta(days=1)
Digest = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512


def own_ca(common_name: str, now: datetime | None = None) -> KeyPair:
    """An authority as the appliance makes it for clients."""
    return new_ca(PROFILES.client_ca, common_name, now or datetime.now(UTC))


def subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class ForeignCa:
    """An authority that somebody else runs, with whatever faults a test wants.

    extensions: those of its certificate; without any it is what a well made authority has.
    """

    def __init__(
        self,
        common_name: str = "Site Root",
        *,
        issuer: ForeignCa | None = None,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        digest: Digest | None = None,
        valid: tuple[timedelta, timedelta] = (-DAY, 3650 * DAY),
        extensions: Sequence[x509.ExtensionType] | None = None,
        path_length: int | None = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.digest: Digest | None = (
            None if isinstance(self.key, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256()
        )
        self.name = subject(common_name)
        if extensions is None:
            extensions = [
                x509.BasicConstraints(ca=True, path_length=path_length),
                key_usage(key_cert_sign=True, crl_sign=True),
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()),
            ]
        self.certificate = (issuer or self).sign(self.name, self.key.public_key(), extensions, valid)

    def sign(
        self,
        name: x509.Name,
        key: object,
        extensions: Sequence[x509.ExtensionType],
        valid: tuple[timedelta, timedelta] = (-DAY, 90 * DAY),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(self.name, name, key, x509.random_serial_number())  # type: ignore[arg-type]
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
        )
        for extension in extensions:
            critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage)
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, self.digest)

    def server(
        self,
        key: object,
        names: Sequence[str],
        *,
        purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
        valid: tuple[timedelta, timedelta] = (-DAY, 90 * DAY),
        more: Sequence[x509.ExtensionType] = (),
    ) -> x509.Certificate:
        """A server certificate for a public key."""
        extensions: list[x509.ExtensionType] = [*more]
        if purpose is not None:
            extensions.append(x509.ExtendedKeyUsage([purpose]))
        if names:
            extensions.append(x509.SubjectAlternativeName([general_name(name) for name in names]))
        return self.sign(subject("llm.example"), key, extensions, valid)


def client_csr(key: CertificateIssuerPrivateKeyTypes, name: str, uri: str) -> bytes:
    """A client's signing request (PEM) with its identity in `uri`."""
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = (
        x509.CertificateSigningRequestBuilder(subject(name))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, digest)
    )
    return request.public_bytes(Encoding.PEM)


def key_usage(**usages: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: usages.get(name, False) for name in names})


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """The same at each call, because RSA keys take long to make."""
    return rsa.generate_private_key(exponent, bits)


def openssl(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str]:
    """Runs the command line tool: its exit status, and all it said."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")
