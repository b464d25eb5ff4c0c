"""Every secret and every decision about access, as one immutable document.

    Credentials
    ├── peppers        what API key secrets are hashed under
    ├── keys           API key records: HMACs, never secrets
    ├── authorities    server, client and admin CA with their private keys, and the phase of a rotation
    ├── server         the server certificate: active, staged, previous
    ├── issued         client and admin certificates that were signed here
    ├── revocations    certificates, tokens and principals that are refused for ever; a key's record says it itself
    ├── crls           revocation lists of external authorities
    ├── allow          the allowlist's entries besides those of appliance.yaml, and a change under way
    └── seal_keys      who signs the audit log's segments, newest last

One document because it changes as a whole: a crash leaves this generation or the next, never a key without its
certificate. What changes it is a pure function from one document to the next; `credential_store` makes it durable.

It does not go back with a release (installer/snapshot.py), so the release before must read what this one writes: fields
that it does not know are passed over, and lost with its next change. A new field therefore has a default, and what
narrows access must not be in one. Where that does not do: one release reads a new `version`, and a later one writes it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from msgspec import Struct, field

from appliance.security.api_keys import KeyRecord
from appliance.security.identity import certificate_reference

AuthorityName = Literal["server", "client", "admin"]
AUTHORITIES: Final[tuple[AuthorityName, ...]] = ("server", "client", "admin")
CaPhase = Literal["standby", "trust_both", "issue_new"]
RevocationKind = Literal["certificate", "token", "principal"]


class StoredPair(Struct, frozen=True, kw_only=True):
    """certificate: DER. key: PKCS#8 DER; None where the private key is elsewhere. chain: DER, issuer first."""

    certificate: bytes
    key: bytes | None
    chain: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"StoredPair({len(self.certificate)} bytes)"


class Authority(Struct, frozen=True, kw_only=True):
    """A certificate authority; while it rotates, two. since: when its phase began."""

    current: StoredPair
    successor: StoredPair | None = None
    phase: CaPhase = "standby"
    since: datetime

    @property
    def issuing(self) -> StoredPair:
        """The one that signs new certificates."""
        return self.successor if self.successor is not None and self.phase == "issue_new" else self.current

    @property
    def trusted(self) -> tuple[StoredPair, ...]:
        """Those whose certificates are accepted."""
        return (self.current,) if self.successor is None else (self.current, self.successor)


class ServerCertificate(Struct, frozen=True, kw_only=True):
    """staged: made, tested, not shown yet. previous: what a rollback brings back.

    requested: the private key (PKCS#8 DER) of a signing request whose certificate has not come back yet.
    """

    active: StoredPair
    staged: StoredPair | None = None
    previous: StoredPair | None = None
    requested: bytes | None = None


class Issued(Struct, frozen=True, kw_only=True):
    """A certificate signed here. serial and issuer_key_id in hexadecimal, fingerprint: SHA-256 of the DER."""

    kind: Literal["client", "admin"]
    name: str
    serial: str
    issuer_key_id: str
    fingerprint: str
    not_before: datetime
    not_after: datetime

    @property
    def reference(self) -> str:
        """As a revocation names it."""
        return certificate_reference(self.issuer_key_id, int(self.serial, 16))


class Revocation(Struct, frozen=True, kw_only=True):
    """What is refused. value: `<issuer key id>:<serial>`, a token id (`jti`) or a principal's name."""

    kind: RevocationKind
    value: str
    time: datetime
    by: str
    reason: str = ""


class StoredCrl(Struct, frozen=True, kw_only=True):
    """A revocation list as it was imported, DER; its signature was verified then and is again at each start."""

    issuer_key_id: str
    data: bytes
    imported: datetime


class AllowEntry(Struct, frozen=True, kw_only=True):
    """A network that may connect. listener: None stands for every one.

    until: from then on it lets nobody in; None: it has no end. ended: that has been seen and recorded, so that a clock
    that is set back brings nobody in again. added_by, added_at: who staged it as it is, and when; an end that is moved
    is no new entry. Both are unknown of entries of earlier releases.
    """

    network: str
    listener: str | None = None
    comment: str = ""
    until: datetime | None = None
    ended: bool = False
    added_by: str = ""
    added_at: datetime | None = None

    def counts(self, now: datetime) -> bool:
        """Whether it lets anybody in."""
        return not self.ended and (self.until is None or now < self.until)


AllowEntries = tuple[AllowEntry, ...]


class AllowTrial(Struct, frozen=True, kw_only=True):
    """A change that is undone at `revert_at` unless it is confirmed. Made by `of`; see AllowState for its fields."""

    lasting: AllowEntries = field(name="previous")
    ending: AllowEntries = ()
    applied_at: datetime
    revert_at: datetime

    def __post_init__(self) -> None:
        """Raises ValueError."""
        _check_apart(self.lasting, self.ending)

    @classmethod
    def of(cls, previous: AllowEntries, applied_at: datetime, revert_at: datetime) -> AllowTrial:
        """previous: the entries that come back."""
        lasting, ending = _apart(previous)
        return cls(lasting=lasting, ending=ending, applied_at=applied_at, revert_at=revert_at)

    @property
    def previous(self) -> AllowEntries:
        """The entries that come back."""
        return self.lasting + self.ending


class AllowState(Struct, frozen=True, kw_only=True):
    """The entries, and what they shall become. Made by `of`; changed by making another.

    Entries with an end are stored apart from the others: a release that knows of no ends would let them in for ever,
    and passes over what it does not know.
    """

    lasting: AllowEntries = field(default=(), name="entries")
    ending: AllowEntries = ()
    staged_lasting: AllowEntries | None = field(default=None, name="staged")
    staged_ending: AllowEntries = ()
    trial: AllowTrial | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        _check_apart(self.lasting, self.ending)
        _check_apart(self.staged_lasting or (), self.staged_ending)

    @classmethod
    def of(
        cls, entries: AllowEntries = (), staged: AllowEntries | None = None, trial: AllowTrial | None = None
    ) -> AllowState:
        """staged: what the entries shall become; None where nothing is being prepared. Their order means nothing."""
        lasting, ending = _apart(entries)
        staged_lasting, staged_ending = (None, ()) if staged is None else _apart(staged)
        return cls(
            lasting=lasting,
            ending=ending,
            staged_lasting=staged_lasting,
            staged_ending=staged_ending,
            trial=trial,
        )

    @property
    def entries(self) -> AllowEntries:
        """What counts, and what has ended."""
        return self.lasting + self.ending

    @property
    def staged(self) -> AllowEntries | None:
        """What the entries shall become; None where nothing is being prepared."""
        return None if self.staged_lasting is None else self.staged_lasting + self.staged_ending


def _apart(entries: AllowEntries) -> tuple[AllowEntries, AllowEntries]:
    """Those without an end, and those with one."""
    return (
        tuple(entry for entry in entries if entry.until is None),
        tuple(entry for entry in entries if entry.until is not None),
    )


def _check_apart(lasting: AllowEntries, ending: AllowEntries) -> None:
    if _apart(lasting)[1] or _apart(ending)[0]:
        raise ValueError("an entry of the allowlist with an end is among those without one, or the reverse")


class Pepper(Struct, frozen=True, kw_only=True):
    """32 random bytes."""

    id: int
    secret: bytes
    created: datetime

    def __repr__(self) -> str:
        return f"Pepper({self.id})"


class Credentials(Struct, frozen=True, kw_only=True):
    """One generation. generation: counts every change; the one before is the only one it may replace."""

    version: Literal[1] = 1
    generation: int
    appliance_id: str
    peppers: tuple[Pepper, ...]
    keys: dict[str, KeyRecord] = {}
    authorities: dict[AuthorityName, Authority]
    server: ServerCertificate
    issued: tuple[Issued, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    crls: tuple[StoredCrl, ...] = ()
    allow: AllowState = AllowState()
    seal_keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Credentials(generation {self.generation}, {len(self.keys)} keys)"
