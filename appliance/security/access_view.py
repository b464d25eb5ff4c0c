"""Everything that decides about access, compiled once from configuration and credentials, and replaced as a whole.

Building one checks all of it: an allowlist entry that is none, a server certificate without its key, a file of trusted
authorities that holds a leaf. Whoever holds a view holds a consistent one.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from appliance.access_config import Certificates, ListenerMode, PrincipalSettings
from appliance.config import Config
from appliance.errors import ConfigError, StateError
from appliance.security.allow_changes import allowlists
from appliance.security.allowlist import Allowlist
from appliance.security.api_keys import Peppers
from appliance.security.certificate_facts import own_key_id
from appliance.security.credentials import AllowEntry, Credentials, StoredPair
from appliance.security.crl import Crl, parse_crl
from appliance.security.external import FILE_BYTES_MAX, Trust, parse_trust
from appliance.security.issuing import trust_pem
from appliance.security.jwt_tokens import JwtVerifier
from appliance.security.key_changes import peppers_of
from appliance.security.revocations import RevocationSet
from appliance.security.server_names import server_names
from appliance.security.stored_pair import certificate_of
from appliance.security.tls import server_context
from appliance.security.trusted_file import read_trusted

ADMIN_LISTENER: Final = "admin.remote"


@dataclass(frozen=True, slots=True)
class ConfiguredAccess:
    """appliance.yaml with the files it names, read and checked.

    names: what a server certificate of ours must cover. own_names: those that appliance.yaml gives, which is what a CA
    elsewhere can be asked to sign.
    """

    config: Config
    names: tuple[str, ...]
    own_names: tuple[str, ...]
    trust: Trust
    jwt: JwtVerifier
    networks: Mapping[str, Allowlist]

    @classmethod
    def load(cls, config: Config, folder: Path, now: datetime) -> ConfiguredAccess:
        """Reads the files relative to `folder`. Raises ConfigError naming key and file."""
        try:
            names = server_names(config.listeners.values())
        except ValueError as error:
            raise ConfigError(f"listeners: names: {error}") from error
        if ADMIN_LISTENER in config.listeners:
            raise ConfigError(f"listeners.{ADMIN_LISTENER}: the remote admin port has this name; choose another")
        all_allowlists(config, ())
        networks = {}
        for principal, settings in config.principals.items():
            if settings.allow:
                try:
                    networks[principal] = Allowlist.parse(settings.allow)
                except ValueError as error:
                    raise ConfigError(f"principals.{principal}.allow: {error}") from error
        for name, listener in config.listeners.items():
            if listener.mode == "key" and not listener.allow:
                raise ConfigError(
                    f"listeners.{name}.allow: mode `key` asks for no certificate, so say who may connect, "
                    "such as [192.0.2.0/24]"
                )
        return cls(
            config=config,
            names=names,
            own_names=tuple(dict.fromkeys(name for one in config.listeners.values() for name in one.names)),
            trust=_read_trust(config.certificates, folder, now),
            jwt=JwtVerifier.load(config.jwt, folder),
            networks=networks,
        )

    def names_of(self, pair: StoredPair) -> tuple[str, ...]:
        """What this server certificate must cover; one that was imported covers no addresses of this host."""
        return self.own_names if pair.chain and self.own_names else self.names


@dataclass(frozen=True, slots=True)
class AccessView:
    """One consistent state of access control. contexts: by listener; the remote admin port's is ADMIN_LISTENER.

    issuers, admin_issuers: the key ids of the authorities whose client and admin certificates count.
    """

    configured: ConfiguredAccess
    document: Credentials
    peppers: Peppers
    revocations: RevocationSet
    crls: Mapping[str, Crl]
    allowlists: Mapping[str, Allowlist]
    contexts: Mapping[str, ssl.SSLContext]
    issuers: frozenset[str]
    admin_issuers: frozenset[str]

    @classmethod
    def build(
        cls, configured: ConfiguredAccess, document: Credentials, previous: AccessView | None = None
    ) -> AccessView:
        """Compiles and tests; some milliseconds, less where TLS is as it was in `previous`.

        Raises ConfigError or StateError.
        """
        lists = all_allowlists(configured.config, document.allow.entries)
        return cls(
            configured=configured,
            document=document,
            peppers=peppers_of(document),
            revocations=RevocationSet(document.revocations),
            crls=_crls(configured, document, previous),
            allowlists=lists,
            contexts=_contexts(configured, document, previous),
            issuers=_key_ids(client_authorities(configured, document)),
            admin_issuers=_key_ids(map(certificate_of, document.authorities["admin"].trusted)),
        )

    def entry_names(self) -> set[str]:
        """Of every entry of the allowlists, as its rules name it."""
        return {rule.name for one in self.allowlists.values() for rule in one.rules if rule.name}

    def mode(self, listener: str) -> ListenerMode:
        """What a client must show at a listener."""
        return self.configured.config.listeners[listener].mode

    def settings(self, principal: str) -> PrincipalSettings:
        """What a principal may do."""
        return self.configured.config.principals.get(principal, _DEFAULTS)


_DEFAULTS = PrincipalSettings()


def all_allowlists(config: Config, entries: Iterable[AllowEntry]) -> dict[str, Allowlist]:
    """The allowlist of every listener, the remote admin port among them. Raises ConfigError naming key and entry."""
    try:
        lists = allowlists(config.listeners, entries)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if config.admin.remote is not None:
        try:
            lists[ADMIN_LISTENER] = Allowlist.parse(config.admin.remote.allow)
        except ValueError as error:
            raise ConfigError(f"admin.remote.allow: {error}") from error
    return lists


def _contexts(
    configured: ConfiguredAccess, document: Credentials, previous: AccessView | None
) -> Mapping[str, ssl.SSLContext]:
    trusts, active = _trusts(configured, document), document.server.active
    if (
        previous is not None
        and previous.document.server.active == active
        and previous.configured.names_of(active) == configured.names_of(active)
        and _trusts(previous.configured, previous.document) == trusts
    ):
        return previous.contexts
    # Outdated ones too: else a host that was off for a year, or whose clock is wrong, could not start to be helped.
    by_trust = {
        trust: server_context(active, configured.names_of(active), trust, outdated=True)
        for trust in set(trusts.values())
    }
    return {name: by_trust[trust] for name, trust in trusts.items()}


def _trusts(configured: ConfiguredAccess, document: Credentials) -> dict[str, bytes | None]:
    """Whose client certificates each listener accepts, as text; None: it asks for none."""
    config = configured.config
    clients = trust_pem(document, "client") if config.certificates.client_ca == "internal" else b""
    trusts = {
        name: None if listener.mode == "key" else clients + configured.trust.pem
        for name, listener in config.listeners.items()
    }
    if config.admin.remote is not None:
        trusts[ADMIN_LISTENER] = trust_pem(document, "admin")
    return trusts


def client_authorities(configured: ConfiguredAccess, document: Credentials) -> list[x509.Certificate]:
    """Everyone whose client certificates count."""
    internal = configured.config.certificates.client_ca == "internal"
    own = map(certificate_of, document.authorities["client"].trusted) if internal else ()
    return [*own, *configured.trust.authorities]


def _key_ids(authorities: Iterable[x509.Certificate]) -> frozenset[str]:
    return frozenset(own_key_id(authority) for authority in authorities)


def _crls(configured: ConfiguredAccess, document: Credentials, previous: AccessView | None) -> Mapping[str, Crl]:
    """The revocation lists of those who are trusted, verified again; of one that is trusted no more nothing counts."""
    authorities = client_authorities(configured, document)
    trusted = _key_ids(authorities)
    if previous is not None and previous.document.crls == document.crls and previous.issuers == trusted:
        return previous.crls
    crls = {}
    for stored in document.crls:
        if stored.issuer_key_id in trusted:
            try:
                crls[stored.issuer_key_id] = parse_crl(stored.data, authorities, stored.imported)
            except ValueError as error:
                raise StateError(f"a stored revocation list cannot be used any more: {error}") from error
    return crls


def _read_trust(certificates: Certificates, folder: Path, now: datetime) -> Trust:
    if certificates.client_ca == "external" and not certificates.trust:
        raise ConfigError("certificates.trust: client_ca: external needs the PEM files of the authorities to trust")
    if not certificates.trust:
        return Trust((), ())
    files = {}
    for name in certificates.trust:
        try:
            files[name] = read_trusted(folder / name, FILE_BYTES_MAX)
        except ValueError as error:
            raise ConfigError(f"certificates.trust: {folder / name} {error}") from error
    try:
        return parse_trust(files, now)
    except ValueError as error:
        raise ConfigError(f"certificates.trust: {error}") from error
