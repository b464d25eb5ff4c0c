"""Every SSL context of the product. A context is built, tested and handed out; nothing changes one afterwards.

TLS 1.3 only. The server asks for a client certificate and issues no session tickets: a resumed session would skip the
check of a certificate that has meanwhile expired or been revoked.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from appliance.errors import StateError

_HANDSHAKE_ROUNDS_MAX: Final = 8


class CapturedAlert:
    """The TLS records that OpenSSL had ready when a handshake failed; empty where there were none."""

    def __init__(self) -> None:
        self.records = b""


# Set per handshake: asyncio builds the SSL object out of our reach, but in a copy of our context variables.
_capturing: ContextVar[CapturedAlert | None] = ContextVar("capturing", default=None)


@contextlib.contextmanager
def capture_alert() -> Iterator[CapturedAlert]:
    """Inside the block, a server handshake that fails leaves its alert in the yielded object.

    asyncio closes the connection without sending it (CPython gh-98078), so the client would see nothing but its end.
    """
    alert = CapturedAlert()
    token = _capturing.set(alert)
    try:
        yield alert
    finally:
        _capturing.reset(token)


class _AlertObject(ssl.SSLObject):
    outgoing: ssl.MemoryBIO
    alert: CapturedAlert | None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.alert is not None:
                self.alert.records = self.outgoing.read()
            raise


class AlertContext(ssl.SSLContext):
    """A context whose failed handshakes can be captured."""

    sslobject_class = _AlertObject

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As the base class does, and remembers where alerts go."""
        wrapped = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(wrapped, _AlertObject)
        wrapped.outgoing = outgoing
        wrapped.alert = _capturing.get()
        return wrapped


def server_context(pair: Path, password: bytes, client_ca_pem: bytes, server_ca_pem: bytes) -> ssl.SSLContext:
    """The server's context from a PEM file with certificate and encrypted key.

    Tested before it is returned: a probe that trusts `server_ca_pem` must accept the server, and the server must turn
    the probe away, which has no certificate. Raises StateError.
    """
    context = AlertContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    # OP_NO_TICKET alone still issues stateful tickets; num_tickets alone is about TLS 1.3. Both are meant.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(pair, password=lambda: password)
        context.load_verify_locations(cadata=client_ca_pem.decode("ascii"))
        _self_test(context, server_ca_pem)
    except (OSError, ValueError) as error:
        raise StateError(f"{pair}: no TLS with this certificate: {error}; restore pki/ from a backup") from error
    return context


def client_context(bundle: Path) -> ssl.SSLContext:
    """For a client of this appliance, from its bundle folder. Raises StateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(bundle / "ca.crt")
        context.load_cert_chain(bundle / "client.crt", bundle / "client.key")
    except OSError as error:
        raise StateError(f"{bundle}: not a usable client bundle: {error}") from error
    return context


def _self_test(context: ssl.SSLContext, server_ca_pem: bytes) -> None:
    """A handshake in memory; raises SSLError unless it goes exactly as it must."""
    probe_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    probe_context.load_verify_locations(cadata=server_ca_pem.decode("ascii"))
    to_server, to_probe = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_probe, server_side=True)
    probe = probe_context.wrap_bio(to_probe, to_server, server_hostname="localhost")
    for _ in range(_HANDSHAKE_ROUNDS_MAX):
        with contextlib.suppress(ssl.SSLWantReadError):
            probe.do_handshake()
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
                return
            raise
        break
    raise ssl.SSLError("the self-test got in without a certificate")
