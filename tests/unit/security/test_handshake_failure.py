"""appliance.security.handshake_failure"""

from __future__ import annotations

import errno
import ssl

import pytest

from appliance.security.handshake_failure import explain


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] text (_ssl.c:1006)")
    error.reason = reason
    return error


def verify_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "some\nfault"
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ssl_error("PEER_DID_NOT_RETURN_A_CERTIFICATE"), "no_certificate"),
        (ssl_error("HTTP_REQUEST"), "plain_http"),
        (ssl_error("UNSUPPORTED_PROTOCOL"), "old_tls"),
        (ssl_error("TLSV1_ALERT_UNKNOWN_CA"), "refused_by_client"),
        (ssl_error("SOMETHING_NEW"), "tls_error"),
        (ssl.SSLEOFError(8, "EOF occurred"), "closed"),
        (verify_error(10), "certificate_expired"),
        (verify_error(9), "certificate_not_yet_valid"),
        (verify_error(20), "unknown_ca"),
        (verify_error(9999), "certificate_refused"),
        (TimeoutError(), "timeout"),
        (ConnectionAbortedError("SSL handshake is taking longer than 5 seconds"), "timeout"),
        (ConnectionResetError(), "closed"),
        (BrokenPipeError(), "closed"),
        (OSError(errno.EMFILE, "Too many open files"), "system_error"),
    ],
)
def test_every_failure_has_a_word_and_a_sentence(error: OSError, reason: str) -> None:
    failure = explain(error)
    assert failure.reason == reason
    assert failure.sentence


def test_an_alert_is_named() -> None:
    assert "alert: unknown ca" in explain(ssl_error("TLSV1_ALERT_UNKNOWN_CA")).sentence
