"""Makes the certificates that an appliance would never issue."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.clock import utc_now
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring
from appliance.security.certificates import KeyPair, certificate_pem
from appliance.security.credential_store import CredentialStore
from appliance.security.credentials import AuthorityName
from appliance.security.private_keys import key_pem
from appliance.security.stored_pair import load_pair
from appliance.state_dir import StateDir, write_atomic

DAY = timedelta(days=1)
CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def authority(state: StateDir, role: AuthorityName) -> KeyPair:
    """The appliance's own authority, private key included, as it is on the disk now."""
    kek = FileKek.open(state.secrets, create=False)
    ring = Keyring.open(state.secrets / "keyring.json", kek, utc_now, create=False)
    store = CredentialStore.open(state.secrets / "credentials", ring.cipher("credentials"))
    return load_pair(store.current.authorities[role].issuing)


def forge(
    issuer: KeyPair | None,
    uris: Sequence[str] = (),
    *,
    usage: Sequence[x509.ObjectIdentifier] | None = CLIENT_AUTH,
    valid: tuple[timedelta, timedelta] = (-DAY, DAY),
    common_name: str = "demo",
    padding: int = 0,
    names_issuer: bool = True,
) -> KeyPair:
    """A leaf certificate; without an issuer it signs itself. `usage` None leaves the extension out.

    names_issuer: by its key, as a certificate of ours does.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if issuer is not None and names_issuer:
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(issuer_key, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    names += [x509.DNSName(f"padding-{number:05}.example") for number in range(padding)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return KeyPair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def der(pair: KeyPair) -> bytes:
    """The certificate as a handshake delivers it."""
    return pair.certificate.public_bytes(Encoding.DER)


def present(pair: KeyPair | None, ca: Path, folder: Path) -> ssl.SSLContext:
    """A client context that shows `pair`, or nothing."""
    context = ssl.create_default_context(cafile=str(ca))
    if pair is not None:
        write_atomic(folder / "forged.crt", certificate_pem(pair.certificate))
        write_atomic(folder / "forged.key", key_pem(pair.key))
        context.load_cert_chain(folder / "forged.crt", folder / "forged.key")
    return context
