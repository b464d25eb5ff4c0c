"""Every SSL context of the product. A context is built, tested and handed out; nothing changes one afterwards.

TLS 1.3 only. The server asks for a client certificate and issues no session tickets: a resumed session would skip the
check of a certificate that has meanwhile expired or been revoked.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from appliance.errors import StateError
from appliance.security.credentials import StoredPair
from appliance.security.stored_pair import certificate_pem, private_pem

_HANDSHAKE_ROUNDS_MAX: Final = 8
# X509_V_FLAG_NO_CHECK_TIME of <openssl/x509_vfy.h>; Python has no name for it.
_NO_CHECK_TIME: Final = 0x200000


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


def server_context(
    pair: StoredPair, names: Sequence[str], client_trust_pem: bytes | None, *, outdated: bool = False
) -> ssl.SSLContext:
    """The server's context. client_trust_pem: who signs client certificates; None asks clients for none.

    Tested before it is returned by a probe that trusts what the certificate comes with: it must accept the server under
    one of its `names`, and a server that asks for certificates must turn away the probe, which has none. outdated: also
    outside the certificate's dates. The private key goes to OpenSSL through memory and touches no disk. Raises
    StateError.
    """
    if pair.key is None:
        raise StateError("no TLS with this server certificate: its private key is not here")
    context = AlertContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    # OP_NO_TICKET alone still issues stateful tickets; num_tickets alone is about TLS 1.3. Both are meant.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    try:
        with _in_memory(certificate_pem(pair) + private_pem(pair)) as path:
            context.load_cert_chain(path)
        if client_trust_pem is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_trust_pem.decode("ascii"))
        refuses = client_trust_pem is not None
        _self_test(context, certificate_pem(pair), names[0], refuses=refuses, outdated=outdated)
    except (OSError, ValueError) as error:
        raise StateError(f"no TLS with this server certificate: {error}") from error
    return context


def client_context(bundle: Path, stem: str = "client") -> ssl.SSLContext:
    """For a client of this appliance, or an administrator (`admin`), from the bundle's folder. Raises StateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(bundle / "ca.crt")
        context.load_cert_chain(bundle / f"{stem}.crt", bundle / f"{stem}.key")
    except OSError as error:
        raise StateError(f"{bundle}: not a usable {stem} bundle (ca.crt, {stem}.crt, {stem}.key): {error}") from error
    return context


def outgoing_context(ca_pem: bytes | None, pair_pem: bytes | None) -> ssl.SSLContext:
    """For connections to servers elsewhere, whose names are always checked. TLS 1.2 is still good enough there.

    ca_pem: who signs their certificates; None trusts those that the system trusts. pair_pem: our certificate and its
    private key, for servers that ask for one. Raises ValueError.
    """
    try:
        context = ssl.create_default_context(cadata=None if ca_pem is None else ca_pem.decode("ascii"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if pair_pem is not None:
            with _in_memory(pair_pem) as path:
                context.load_cert_chain(path, password=_no_password)
    except OSError as error:
        raise ValueError(f"no TLS with these files: {error}") from error
    return context


def _no_password() -> str:
    """Instead of a question at the terminal."""
    raise ValueError("the private key is encrypted; a service cannot be asked for its password")


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path to a file that exists in memory only, as long as the block runs."""
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _self_test(context: ssl.SSLContext, chain_pem: bytes, name: str, *, refuses: bool, outdated: bool) -> None:
    """A handshake in memory; raises SSLError unless it goes exactly as it must."""
    probe_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The chain may end below its root: the probe takes the certificate's own word for who issued it, and no other.
    probe_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if outdated:
        probe_context.verify_flags |= _NO_CHECK_TIME
    probe_context.load_verify_locations(cadata=chain_pem.decode("ascii"))
    to_server, to_probe = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_probe, server_side=True)
    probe = probe_context.wrap_bio(to_probe, to_server, server_hostname=name)
    for _ in range(_HANDSHAKE_ROUNDS_MAX):
        with contextlib.suppress(ssl.SSLWantReadError):
            probe.do_handshake()
        try:
            server.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            if refuses and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
                return
            raise
        break
    else:
        raise ssl.SSLError("the self-test did not come to an end")
    if refuses:
        raise ssl.SSLError("the self-test got in without a certificate")
