"""Where a dashboard finds its appliance: the Unix socket, or a remote admin port with an administrator's bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from appliance.admin_client import AdminClient
from appliance.errors import ConfigError, StateError

if TYPE_CHECKING:
    import ssl


class AdminEndpoint(Struct, frozen=True, kw_only=True):
    """url: of a remote port; then bundle is the folder with ca.crt, admin.crt and admin.key. Else socket is a path."""

    socket: str | None = None
    url: str | None = None
    bundle: str | None = None

    @property
    def where(self) -> str:
        """For people."""
        return self.url or self.socket or ""

    def connect(self) -> AdminClient:
        """A client, which connects when it is asked for something. Raises ConfigError."""
        if self.url is None:
            return AdminClient.local(Path(self.socket or ""))
        return AdminClient.remote(self.url, self.context())

    def ends(self) -> float | None:
        """When the administrator's certificate does, UTC seconds since 1970; None through the socket, or unreadable."""
        if self.bundle is None:
            return None
        from cryptography import x509

        try:
            certificate = x509.load_pem_x509_certificate((Path(self.bundle) / "admin.crt").read_bytes())
        except (OSError, ValueError):
            return None
        return certificate.not_valid_after_utc.timestamp()

    def context(self) -> ssl.SSLContext:
        """With the administrator's certificate as it lies there now. Raises ConfigError."""
        # Imported here: through the socket, no certificate is needed, nor all that reads them.
        from appliance.security.tls import client_context

        try:
            return client_context(Path(self.bundle or ""), "admin")
        except StateError as error:
            raise ConfigError(f"the administrator's bundle (--bundle, APPLIANCE_ADMIN_BUNDLE): {error}") from error
