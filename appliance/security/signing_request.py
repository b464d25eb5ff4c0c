"""Certificate signing requests (PKCS#10): read from clients, and made for a CA elsewhere. Pure.

Of a request that we sign only the public key counts: names, purposes and all else are what we issue, not what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.security.certificate_names import common_name_of, general_name
from appliance.security.key_strength import key_fault
from appliance.security.private_keys import PrivateKey

CSR_BYTES_MAX: Final = 16 * 1024


def requested_key(csr_pem: bytes) -> CertificatePublicKeyTypes:
    """The public key of a request whose sender has proved to hold the private one.

    Raises ValueError with a sentence; keys are ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits and more.
    """
    if len(csr_pem) > CSR_BYTES_MAX:
        raise ValueError(f"the signing request is larger than {CSR_BYTES_MAX} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise ValueError("the signing request cannot be read; it must be PEM (BEGIN CERTIFICATE REQUEST)") from error
    if (fault := key_fault(key)) is not None:
        raise ValueError(f"the signing request {fault}")
    if not _is_proved(request):
        raise ValueError("the signing request is not signed with its own key; make it anew with that key")
    return key


def make_csr(key: PrivateKey, names: Sequence[str]) -> bytes:
    """A request (PEM) for a server certificate that a CA elsewhere signs. names: host names and addresses."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(common_name_of(names[0]))
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(Encoding.PEM)


def _is_proved(request: x509.CertificateSigningRequest) -> bool:
    try:
        return request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
