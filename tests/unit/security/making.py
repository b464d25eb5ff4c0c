"""Documents, views and offices for tests: real keys and certificates, a clock that is moved, a recording audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from ssl import PEM_cert_to_DER_cert
from typing import cast

from msgspec.structs import replace

from appliance.access_config import Listener
from appliance.audit.keys import SealKey
from appliance.audit.log import AuditLog
from appliance.audit.record import AuditEvent
from appliance.config import Config
from appliance.errors import StateError
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring, PurposeCipher
from appliance.security.access_view import AccessView, ConfiguredAccess
from appliance.security.allowlist import Address
from appliance.security.api_keys import ApiKey
from appliance.security.authority import AccessControl
from appliance.security.client_bundle import BundleFiles, add_client
from appliance.security.credential_store import CredentialStore
from appliance.security.credentials import Credentials
from appliance.security.entry_hits import EntryHits
from appliance.security.founding import found
from appliance.security.identity import Peer
from appliance.security.last_seen import LastSeen
from appliance.security.office import Office
from appliance.security.profiles import Profiles

PROFILES = Profiles.shipped()
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
# OpenSSL, which tests every TLS context, knows one clock only.
NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("localhost", "127.0.0.1")
HERE = IPv4Address("10.0.0.1")
# Who may come in where nothing is listed.
THIS_HOST = IPv4Address("127.0.0.1")


@cache
def founded(now: datetime = NOW) -> Credentials:
    """Generation 1 of an appliance; the same at each call, and immutable."""
    return found(PROFILES, NAMES, SealKey.generate().private_bytes, now)


@dataclass(frozen=True)
class Client:
    """What a client was handed, ready to show."""

    name: str
    certificate: bytes
    key: ApiKey

    @property
    def bearer(self) -> str:
        return f"Bearer {self.key.reveal()}"

    def peer(self, listener: str = "api", address: Address = THIS_HOST) -> Peer:
        return Peer(address, self.certificate, listener, NOW)


def with_client(document: Credentials, name: str = "demo", now: datetime = NOW) -> tuple[Credentials, Client]:
    """The document with one more client, and the client."""
    document, files = add_client(document, PROFILES, name, now, life=90 * DAY)
    return document, client_of(name, files)


def client_of(name: str, files: BundleFiles) -> Client:
    key = ApiKey.parse(files["api.key"].decode().strip())
    assert key is not None
    return Client(name, der_of(files["client.crt"]), key)


def der_of(pem: bytes) -> bytes:
    return PEM_cert_to_DER_cert(pem.decode())


def configured(config: Config | None = None, folder: Path = Path("/nonexistent")) -> ConfiguredAccess:
    return ConfiguredAccess.load(config or Config(), folder, NOW)


def listeners(*names: str, **settings: object) -> Config:
    """A configuration with listeners of these names that differ in nothing but their names."""
    return Config(listeners={name: replace(Listener(), **settings) for name in names})


class Clock:
    """Stands where it is told to."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Recording:
    """An audit log that keeps events; `trouble` sees each durable one first, and raises where the disk would fail."""

    events: list[AuditEvent] = field(default_factory=list)
    trouble: Callable[[AuditEvent], None] = lambda event: None
    available: bool = True

    def append(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def append_durably(self, event: AuditEvent) -> None:
        self.trouble(event)
        self.events.append(event)

    def close(self) -> None:
        pass

    @property
    def story(self) -> list[str]:
        """Action and outcome of everything, in order."""
        return [f"{event.action} {event.outcome}" for event in self.events]


@dataclass
class Plain:
    """A cipher that only marks what it was given; `trouble` is called before, in the thread that seals."""

    trouble: Callable[[], None] = lambda: None

    def seal(self, record_id: str, plaintext: bytes) -> bytes:
        self.trouble()
        return f"{record_id}\n".encode() + plaintext

    def unseal(self, record_id: str, sealed: bytes) -> bytes:
        head, _, body = sealed.partition(b"\n")
        if head != record_id.encode():
            raise StateError("sealed as another record")
        return body


@dataclass
class Bench:
    """An office with all its parts."""

    office: Office
    audit: Recording
    cipher: Plain
    clock: Clock
    path: Path

    @property
    def document(self) -> Credentials:
        return self.office.document

    @property
    def stored(self) -> Credentials:
        """What a restart would find."""
        return CredentialStore.open(self.path, self.cipher).current


def bench(
    folder: Path, document: Credentials | None = None, config: Config | None = None, clock: Clock | None = None
) -> Bench:
    """Opens an office on a document, in an existing folder."""
    clock = clock or Clock()
    cipher, audit = Plain(), Recording()
    store = CredentialStore.found(folder / "credentials", cipher, document or founded())
    seen = LastSeen(folder / "last_seen.json")
    view = AccessView.build(configured(config), store.current)
    access = AccessControl(view, seen, EntryHits(folder / "allow_hits.json"), clock)
    office = Office(store, access, cast(AuditLog, audit), seen, PROFILES, clock)
    return Bench(office, audit, cipher, clock, folder / "credentials")


def cipher_in(folder: Path) -> PurposeCipher:
    """The product's cipher with a keyring of its own."""
    kek = FileKek.open(folder, create=True)
    return Keyring.open(folder / "keyring.json", kek, lambda: NOW, create=True).cipher("credentials")
