"""The part of appliance.yaml that says who may do what: listeners, principals, keys, audit, administration."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from appliance.types import Priority

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1024, le=2**40)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Tokens = Annotated[int, Meta(ge=1, le=10**12)]
Networks = Annotated[tuple[str, ...], Meta(max_length=10_000)]
ListenerMode = Literal["cert_and_key", "cert", "key"]
AdminRole = Literal["viewer", "operator", "security", "auditor"]

DEFAULT_PORT: Final = 8443
MAIN_LISTENER: Final = "api"
PRINCIPAL_NAME: Final = r"[a-z0-9][a-z0-9-]{0,62}"


class Listener(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One address of the API and what a client must show there.

    mode: `cert_and_key` asks for a valid client certificate and an API key of the same principal, `cert` for the
    certificate alone, `key` for the key alone (and then `allow` must be given).
    names: further host names and addresses for the server certificate, besides this host's own.
    allow: networks that may connect, as addresses or CIDR; an empty list is loopback only.
    """

    host: str = "127.0.0.1"
    port: Port = DEFAULT_PORT
    mode: ListenerMode = "cert_and_key"
    names: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    allow: Networks = ()


class PrincipalSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one principal may do, and how its requests are treated among those of others.

    role: `inference` may use models, `viewer` only list them. models: ids or aliases it may use, all where empty.
    allow: networks it may come from, within the listener's; anywhere where empty.
    requests_per_minute, tokens_per_minute: token buckets of one minute's size; tokens are prompt and completion tokens.
    tokens_per_day, tokens_per_month: per calendar day and month, UTC. concurrent_max: requests at once. None: no limit.
    priority: class of urgency; a lower class goes first, and takes running ones' slots and cells. weight: its share
    against others of its class. cache_group: principals of one group find each other's prompts in the KV cache; without
    one, only its own.
    """

    role: Literal["inference", "viewer"] = "inference"
    models: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()
    allow: Networks = ()
    requests_per_minute: Count | None = None
    tokens_per_minute: Tokens | None = None
    tokens_per_day: Tokens | None = None
    tokens_per_month: Tokens | None = None
    concurrent_max: Count | None = None
    priority: Priority = 50
    weight: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0
    cache_group: Annotated[str, Meta(pattern=rf"^{PRINCIPAL_NAME}\Z")] | None = None


class JwtIssuer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose signed tokens stand for an API key.

    issuer, audience: what `iss` and `aud` must say. keys: PEM public keys and JWKS files, relative to appliance.yaml.
    algorithms: which signatures count. principal_claim: the claim with the principal's name. leeway_seconds: how far
    the clocks may differ. life_seconds_max: a token that is valid for longer is refused.
    """

    issuer: Annotated[str, Meta(min_length=1, max_length=256)]
    audience: Annotated[str, Meta(min_length=1, max_length=256)]
    keys: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    algorithms: Annotated[tuple[Literal["EdDSA", "ES256", "RS256"], ...], Meta(min_length=1)] = ("EdDSA", "ES256")
    principal_claim: Annotated[str, Meta(min_length=1, max_length=64)] = "sub"
    leeway_seconds: Annotated[float, Meta(ge=0, le=300)] = 60.0
    life_seconds_max: Seconds = 86_400.0


class ApiKeys(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """life_days: how long a new key is valid. grace_hours: how long a rotated one still is."""

    life_days: Annotated[int, Meta(ge=1, le=366)] = 90
    grace_hours: Annotated[float, Meta(ge=0, le=14 * 24)] = 24.0


class Certificates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who issues client certificates.

    client_ca: `internal` is our own authority; `external` trusts the certificates in `trust` and issues none.
    trust: PEM files, relative to appliance.yaml. crl_expired: what an external CA's expired revocation list means:
    nobody of that CA gets in, or it still counts and the appliance is degraded.
    """

    client_ca: Literal["internal", "external"] = "internal"
    trust: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    crl_expired: Literal["fail_closed", "warn"] = "fail_closed"


class KeyEncryption(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the key-encryption key is: it opens the data keys, and so everything that is encrypted at rest.

    source: `file` beside what it protects (development), `credential` of systemd ($CREDENTIALS_DIRECTORY/<credential>),
    `passphrase` from the credential or file that `passphrase_file` names, `pkcs11` an AES key in a token.
    """

    source: Literal["file", "credential", "passphrase", "pkcs11"] = "file"
    credential: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")] = "appliance-kek"
    passphrase_file: str | None = None
    pkcs11_module: str | None = None
    pkcs11_token: str | None = None
    pkcs11_key: str = "appliance-kek"
    pkcs11_pin_file: str | None = None


class Siem(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where audit records are copied to: `syslog` (RFC 5424 over TLS) or `file` (JSON lines).

    target: `host:port` or a path. ca, certificate, key: PEM files for TLS. buffer_bytes_max: what waits on disk while
    the collector is away; beyond it the oldest copies are dropped, and counted.
    """

    format: Literal["syslog", "file"]
    target: Annotated[str, Meta(min_length=1, max_length=512)]
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    buffer_bytes_max: Bytes = 256 * 2**20


class Audit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The audit log. Records are durable within commit_seconds, those of administration before the answer.

    retention_days: how long closed segments are kept. anchor: a file, on removable media, that gets the head of the
    chain every minute. legal_hold: nothing is deleted. disk_warn_bytes, disk_min_bytes: with less free space the
    appliance warns, or serves no requests.
    """

    retention_days: Annotated[int, Meta(ge=1, le=3660)] = 90
    segment_bytes_max: Bytes = 64 * 2**20
    commit_seconds: Annotated[float, Meta(gt=0, le=5)] = 0.1
    anchor: str | None = None
    legal_hold: bool = False
    disk_warn_bytes: Annotated[int, Meta(ge=0)] = 4 * 2**30
    disk_min_bytes: Annotated[int, Meta(ge=0)] = 256 * 2**20
    siem: Siem | None = None


class Capture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeping what clients ask and what they are answered, encrypted, for auditors. Off unless it is turned on.

    principals: of these clients alone; of all where empty. bytes_max: what one request's prompt and answers may take;
    the rest is cut, with a mark. disk_bytes_max: what all of it may take; the oldest goes first.
    """

    enabled: bool = False
    principals: Annotated[
        tuple[Annotated[str, Meta(pattern=rf"^{PRINCIPAL_NAME}\Z")], ...], Meta(max_length=10_000)
    ] = ()
    retention_days: Annotated[int, Meta(ge=1, le=365)] = 7
    bytes_max: Annotated[int, Meta(ge=1024, le=64 * 2**20)] = 256 * 2**10
    disk_bytes_max: Bytes = 4 * 2**30


class Responses(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeping responses for the clients that ask for it (`store: true` at /v1/responses), encrypted.

    retention_days: how long. bytes_max: what the input of one may take. disk_bytes_max: what all of them may take;
    the oldest of who keeps most go first.
    """

    enabled: bool = True
    retention_days: Annotated[int, Meta(ge=1, le=365)] = 30
    bytes_max: Annotated[int, Meta(ge=1024, le=64 * 2**20)] = 4 * 2**20
    disk_bytes_max: Bytes = 2**30


class RemoteAdmin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The admin API over TCP: mutual TLS with a certificate of the admin authority, never an API key.

    administrators: their names and roles.
    """

    host: str = "127.0.0.1"
    port: Port = 8444
    allow: Networks
    administrators: Annotated[dict[str, tuple[AdminRole, ...]], Meta(max_length=256)]


class Admin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may administer. socket: default `<state-dir>/run/admin.sock`.

    groups: for each role the Unix groups that have it. root, and the user the daemon runs as, have every role.
    two_persons: actions that a second administrator must approve.
    """

    socket: str | None = None
    groups: Annotated[dict[AdminRole, tuple[str, ...]], Meta(max_length=8)] = {}
    two_persons: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    approval_seconds: Seconds = 3600.0
    remote: RemoteAdmin | None = None
