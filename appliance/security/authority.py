"""What the daemon asks of access control, per connection and per request."""

from __future__ import annotations

import functools
import logging
import ssl
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from appliance.clock import Clock
from appliance.security.access import Principal, bearer_token, check_address, check_certificate, check_open, decide
from appliance.security.access_view import ADMIN_LISTENER, AccessView
from appliance.security.allowlist import Allowlist
from appliance.security.api_keys import ApiKey
from appliance.security.entry_hits import EntryHits
from appliance.security.identity import Peer, PeerIdentity, peer_identity
from appliance.security.last_seen import LastSeen
from appliance.security.refusal import Refusal
from appliance.security.refusal_log import RefusalLog, Refused

_IDENTITIES_MAX: Final = 4096

_log = logging.getLogger(__name__)


class AccessControl:
    """Who may connect, and who a request is from, by the view of this moment. Belongs to the daemon's event loop.

    hits: counts what each entry of the allowlist lets in.
    to_move: keys that were shown rightly and are hashed under an older pepper: by kid, a newer one and their HMAC.
    """

    def __init__(
        self, view: AccessView, seen: LastSeen, hits: EntryHits, now: Clock, refused: Refused | None = None
    ) -> None:
        self._view = view
        self._seen = seen
        self.hits = hits
        self._now = now
        self._refusals = RefusalLog(_log, refused)
        self.to_move: dict[str, tuple[int, bytes]] = {}
        # Parsing costs more than all the rest of a request's check, and connections repeat their certificate.
        self._identity = functools.lru_cache(_IDENTITIES_MAX)(
            functools.partial(peer_identity, appliance_id=view.document.appliance_id)
        )

    @property
    def view(self) -> AccessView:
        """What decides now."""
        return self._view

    def replace(self, view: AccessView) -> None:
        """What decides from now on."""
        self._view = view

    def allowlist(self, listener: str) -> Allowlist:
        """The addresses that may connect to a listener now."""
        return self._view.allowlists.get(listener) or Allowlist(())

    def server_context(self, listener: str) -> ssl.SSLContext:
        """The TLS context for the next connection to a listener."""
        return self._view.contexts[listener]

    def authenticate(self, peer: Peer, authorization: Sequence[str]) -> Principal:
        """Who a request is from: `authorization` has the values of all its Authorization headers.

        Call it for every request, on the event loop. Raises RequestError; the log then has the exact reason, folded.
        """
        now, identity = self._now(), None
        try:
            self.hits.note(check_address(self._view, peer, now).name, now)
            identity = self._identity_of(peer)
            principal = decide(self._view, peer, identity, authorization, now)
        except Refusal as refusal:
            name = None if identity is None else identity.name
            self._refusals.record(str(peer.address), refusal.kind, refusal.reason, name)
            raise
        self._note(principal, identity, authorization, now)
        return principal

    def administrator(self, peer: Peer) -> PeerIdentity:
        """Who is at the other end of a connection to the remote admin port. Raises Refusal."""
        now = self._now()
        try:
            identity = self._administrator_in(peer)
            check_certificate(self._view, identity, self._view.admin_issuers, now)
        except Refusal as refusal:
            self._refusals.record(str(peer.address), refusal.code, refusal.reason)
            raise
        self._seen.note_issuer(identity.issuer_key_id, identity.name, now)
        return identity

    def must_end(self, peer: Peer, shown: Principal | None) -> str | None:
        """Why an open connection must end by the view of now; None where it may stay. Also of the remote admin port."""
        try:
            if peer.listener == ADMIN_LISTENER:
                identity: PeerIdentity | None = self._administrator_in(peer)
            else:
                identity = self._identity_of(peer)
            check_open(self._view, peer, identity, shown, self._now())
        except Refusal as refusal:
            return refusal.reason
        return None

    def close(self) -> None:
        """Writes the refusals that are counted and not yet logged."""
        self._refusals.close()

    def _identity_of(self, peer: Peer) -> PeerIdentity | None:
        return None if self._view.mode(peer.listener) == "key" else self._identity(peer.certificate)

    def _administrator_in(self, peer: Peer) -> PeerIdentity:
        return peer_identity(peer.certificate, self._view.document.appliance_id, "admin")

    def _note(
        self, principal: Principal, identity: PeerIdentity | None, authorization: Sequence[str], now: datetime
    ) -> None:
        if identity is not None:
            self._seen.note_issuer(identity.issuer_key_id, identity.name, now)
        if principal.credential != "key":
            return
        self._seen.note_key(principal.kid, now)
        peppers, kid = self._view.peppers, principal.kid
        if self._view.document.keys[kid].pepper == peppers.newest:
            return
        if kid not in self.to_move or self.to_move[kid][0] != peppers.newest:
            key = ApiKey.parse(bearer_token(authorization))
            assert key is not None, "it was accepted"
            self.to_move[kid] = (peppers.newest, peppers.hash(peppers.newest, key))
