"""Why a TLS handshake failed, in an operator's words. Pure."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class HandshakeFailure:
    """reason: a stable word for logs and counters; sentence: completes "<address> …"."""

    reason: str
    sentence: str


NO_CERTIFICATE: Final = HandshakeFailure("no_certificate", "presented no certificate")
UNKNOWN_CA: Final = HandshakeFailure("unknown_ca", "presented a certificate of another CA")
PLAIN_HTTP: Final = HandshakeFailure("plain_http", "spoke plain HTTP; this port speaks HTTPS only")
NOT_TLS: Final = HandshakeFailure("not_tls", "sent something that is not TLS")
OLD_TLS: Final = HandshakeFailure("old_tls", "offered TLS 1.2 at most; TLS 1.3 is required")
CLOSED: Final = HandshakeFailure("closed", "closed the connection during the handshake")
TOO_SLOW: Final = HandshakeFailure("timeout", "did not finish the handshake in time")
TOO_LARGE: Final = HandshakeFailure("certificate_too_large", "presented a certificate that is too large")

# OpenSSL's X509_V_ERR_… numbers (x509_vfy.h).
_BY_VERIFY_CODE: Final[Mapping[int, HandshakeFailure]] = {
    2: UNKNOWN_CA,
    7: HandshakeFailure("forged", "presented a certificate that names our CA but was not signed by it"),
    9: HandshakeFailure(
        "certificate_not_yet_valid", "presented a certificate that is not valid yet; compare the clocks"
    ),
    10: HandshakeFailure("certificate_expired", "presented an expired certificate"),
    18: HandshakeFailure("self_signed", "presented a self-signed certificate"),
    19: UNKNOWN_CA,
    20: UNKNOWN_CA,
    21: UNKNOWN_CA,
    23: HandshakeFailure("certificate_revoked", "presented a revoked certificate"),
    24: HandshakeFailure("invalid_ca", "presented a certificate whose issuer is no CA"),
    26: HandshakeFailure("wrong_purpose", "presented a certificate that is not for clients"),
    79: HandshakeFailure("invalid_ca", "presented a certificate whose issuer is no CA"),
}

_BY_SSL_REASON: Final[Mapping[str, HandshakeFailure]] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": NO_CERTIFICATE,
    "HTTP_REQUEST": PLAIN_HTTP,
    "HTTPS_PROXY_REQUEST": PLAIN_HTTP,
    "UNSUPPORTED_PROTOCOL": OLD_TLS,
    "VERSION_TOO_LOW": OLD_TLS,
    "NO_SHARED_CIPHER": OLD_TLS,
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "UNKNOWN_PROTOCOL": NOT_TLS,
    "BAD_RECORD_TYPE": NOT_TLS,
    "RECORD_LAYER_FAILURE": NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": NOT_TLS,
    "UNEXPECTED_MESSAGE": NOT_TLS,
    "UNEXPECTED_EOF_WHILE_READING": CLOSED,
    "EXCESSIVE_MESSAGE_SIZE": TOO_LARGE,
}


def explain(error: OSError | TimeoutError) -> HandshakeFailure:
    """The failure behind what asyncio's handshake raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code) or HandshakeFailure(
            "certificate_refused", f"presented a certificate that failed verification ({error.verify_message})"
        )
    if isinstance(error, ssl.SSLError):
        return _explain_ssl(error)
    # asyncio reports its handshake timeout as ConnectionAbortedError.
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        return TOO_SLOW
    if isinstance(error, ConnectionError):
        return CLOSED
    return HandshakeFailure("system_error", f"could not be served: {error.strerror or error}")


def _explain_ssl(error: ssl.SSLError) -> HandshakeFailure:
    if isinstance(error, ssl.SSLEOFError):
        return CLOSED
    reason = error.reason or ""
    if reason in _BY_SSL_REASON:
        return _BY_SSL_REASON[reason]
    _, is_alert, alert = reason.partition("_ALERT_")
    if is_alert:
        words = alert.lower().replace("_", " ")
        return HandshakeFailure("refused_by_client", f"refused this server's certificate or TLS (alert: {words})")
    return HandshakeFailure("tls_error", f"failed the TLS handshake ({reason or error})")
