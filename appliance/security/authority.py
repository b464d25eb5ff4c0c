"""What the daemon holds of the security package."""

from __future__ import annotations

import functools
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from appliance.config import Config
from appliance.errors import ConfigError
from appliance.security.access import Principal, decide
from appliance.security.allowlist import Allowlist
from appliance.security.clients import issue_bundle
from appliance.security.identity import Peer, peer_identity
from appliance.security.refusal import Refusal
from appliance.security.refusal_log import RefusalLog
from appliance.security.server_names import server_names
from appliance.security.tls import server_context
from appliance.security.vault import Clock, Vault, utc_now
from appliance.state_dir import StateDir

DEMO_CLIENT: Final = "demo"
_IDENTITIES_MAX: Final = 4096

T = TypeVar("T")

_log = logging.getLogger(__name__)


class AccessControl:
    """Who may connect, and who a request is from. Belongs to the daemon's event loop.

    created: this was the first start, and the bundle of client `demo` is new.
    """

    def __init__(self, vault: Vault, allowlist: Allowlist, context: ssl.SSLContext, now: Clock) -> None:
        self.created = vault.created
        self._vault = vault
        self._allowlist = allowlist
        self._context = context
        self._now = now
        self._refusals = RefusalLog(_log)
        # Parsing costs more than all the rest of a request's check, and connections repeat their certificate.
        self._identity = functools.lru_cache(_IDENTITIES_MAX)(
            functools.partial(peer_identity, appliance_id=vault.pki.appliance_id)
        )

    @classmethod
    def open(cls, state: StateDir, config: Config, now: Clock = utc_now) -> AccessControl:
        """Opens the prepared state directory; the first start creates authorities, secrets and client `demo`.

        Issues the server certificate anew where it is due. Blocks for some 50 ms. Raises ConfigError or StateError.
        """
        main = next(iter(config.listeners.values()))
        allowlist = _configured("listeners.api.allow", lambda: Allowlist.parse(main.allow))
        names = _configured("listeners.api.names", lambda: server_names(config.listeners.values()))
        with state.writing():
            vault = Vault.open(state, now, create=True)
            vault.pki.ensure_server_certificate(names)
            if vault.created:
                issue_bundle(state, vault, DEMO_CLIENT, now)
        pki = vault.pki
        context = server_context(pki.server_path, pki.server_password, pki.client_ca_pem, pki.server_ca_pem)
        return cls(vault, allowlist, context, now)

    @property
    def allowlist(self) -> Allowlist:
        """The addresses that may connect now."""
        return self._allowlist

    def server_context(self) -> ssl.SSLContext:
        """The TLS context for the next connection."""
        return self._context

    def authenticate(self, peer: Peer, authorization: Sequence[str]) -> Principal:
        """Who a request is from: `authorization` has the values of all its Authorization headers.

        Call it for every request, on the event loop. Raises RequestError; the log then has the exact reason, folded.
        """
        who = str(peer.address)
        try:
            identity = self._identity(peer.certificate)
            who = f"{who} (client {identity.name})"
            return decide(identity, authorization, self._vault.keys.find, self._vault.peppers, self._now())
        except Refusal as refusal:
            self._refusals.record(who, refusal.code, refusal.reason)
            raise

    def close(self) -> None:
        """Writes the refusals that are counted and not yet logged."""
        self._refusals.close()


def _configured(key: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
