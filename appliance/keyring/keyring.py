"""Data-encryption keys by purpose, several generations of each, and what they seal.

    sealed = version (1 byte, 1) | key id (8 bytes) | nonce (12 random bytes) | AES-256-GCM ciphertext | tag (16 bytes)

The additional data are `purpose|record id|key id`, so nothing sealed can stand in for another record or purpose. A key
id is of fixed length and a purpose has no `|`, so no two triples give the same bytes. The newest generation seals;
older ones only open.

Counting: random nonces bound a key to MESSAGES_MAX messages. Before the first of RESERVE messages is sealed, the file
counts all of them; a crash wastes what is left of them, and never under-counts.

Threads: any thread may call anything. `unseal` takes no lock where it knows the key: it reads one immutable table,
which is replaced as a whole; AESGCM objects may be shared. `seal` takes a lock for some microseconds, to look whether
the file changed and to count; once in RESERVE messages it writes the file under it (milliseconds), and encrypts without
it. `rotate`, `drop` and `rekey` work under the file's lock alone and take this one only to adopt the result, so they
hold up a `seal` by no more than that. Between processes the file's lock, and one stat of the file at each seal, keep
counts and generations right.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec
from cryptography.exceptions import InvalidTag
from msgspec import Struct

from appliance.clock import Clock
from appliance.errors import StateError
from appliance.keyring.data_key import HEADER_BYTES, VERSION, DataKey, PlainKey, plain_key, unwrap_key, wrap_key
from appliance.keyring.kek import KEY_BYTES, Kek
from appliance.keyring.keyring_file import MESSAGES_MAX, KeyringFile, Keys, Signature, WrappedKey
from appliance.safe_text import safe_text

Purpose = Literal["credentials", "audit", "capture", "responses"]
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)

RESERVE: Final = 2**16
PLAINTEXT_BYTES_MAX: Final = 2**30
OVERHEAD_BYTES: Final = HEADER_BYTES + 12 + 16
_NONCE_BYTES: Final = 12
_BODY_START: Final = HEADER_BYTES + _NONCE_BYTES


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One data key as an administrator sees it. messages: sealed with it, at most. newest: it is the one that seals."""

    id: str
    purpose: str
    generation: int
    created: datetime
    kek: str
    messages: int
    newest: bool


class _PlainRing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    keys: tuple[PlainKey, ...]


class Keyring:
    """The keys of one file, unwrapped. Follows the file when another process changes it."""

    def __init__(self, file: KeyringFile, kek: Kek, now: Clock) -> None:
        """Use `open`."""
        self._file = file
        self._kek = kek
        self._now = now
        self._lock = threading.Lock()
        self._signature: Signature | None = None
        self._keys: Mapping[str, DataKey] = {}
        self._newest: Mapping[str, DataKey] = {}
        # Messages that the file already counts and that are not sealed yet, by key id.
        self._left: dict[str, int] = {}

    @classmethod
    def open(cls, path: Path, kek: Kek, now: Clock, *, create: bool) -> Keyring:
        """Unwraps every key. With `create`, makes the file where it is missing.

        A purpose that the file does not know yet gets its first key. Raises StateError.
        """
        ring = cls(KeyringFile(path), kek, now)
        known = () if create and not path.exists() else ring._file.read()
        if missing := set(PURPOSES) - {key.purpose for key in known}:
            ring._file.change(lambda keys: ring._with_first_keys(keys, missing), create=create)
        with ring._lock:
            ring._follow()
        return ring

    def seal(self, purpose: Purpose, record_id: str, plaintext: bytes) -> bytes:
        """Encrypts under the newest key of `purpose`; OVERHEAD_BYTES longer. Raises StateError when it must not.

        record_id: what it is and where it belongs; must be given again to open it. Not secret.
        """
        assert len(plaintext) <= PLAINTEXT_BYTES_MAX
        with self._lock:
            self._follow()
            key = self._newest[purpose]
            left = self._left.get(key.record.id) or self._reserve(key)
            self._left[key.record.id] = left - 1
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return key.header + nonce + key.aead.encrypt(nonce, plaintext, _data(purpose, record_id, key))

    def unseal(self, purpose: Purpose, record_id: str, sealed: bytes) -> bytes:
        """The plaintext of what `seal` made for the same purpose and record. Raises StateError."""
        key = self._key_of(purpose, record_id, sealed)
        # A view, since a copy of a large body costs as much as opening it.
        nonce, body = sealed[HEADER_BYTES:_BODY_START], memoryview(sealed)[_BODY_START:]
        try:
            return key.aead.decrypt(nonce, body, _data(purpose, record_id, key))
        except (InvalidTag, ValueError) as error:
            raise StateError(
                f"{_named(purpose, record_id)} is damaged, or was sealed as another record; restore it from a backup"
            ) from error

    def is_current(self, purpose: Purpose, sealed: bytes) -> bool:
        """Whether the newest key sealed it. Where not, seal it again before `drop`."""
        return sealed[:HEADER_BYTES] == self._newest[purpose].header

    def cipher(self, purpose: Purpose) -> PurposeCipher:
        """This ring for one purpose."""
        return PurposeCipher(self, purpose)

    def rotate(self, purpose: Purpose) -> int:
        """Makes a new key for `purpose` and returns its generation; older ones only open from now on."""
        made: list[WrappedKey] = []

        def edit(keys: Keys) -> Keys:
            newest = max((key.generation for key in keys if key.purpose == purpose), default=0)
            self._check_kek(keys)
            made.append(self._new_key(purpose, newest + 1))
            return (*keys, made[-1])

        self._file.change(edit)
        self._adopt()
        return made[-1].generation

    def drop(self, purpose: Purpose, generation: int) -> None:
        """Removes a key for good, and with it all that it sealed. Raises StateError for the newest, and for none."""

        def edit(keys: Keys) -> Keys:
            generations = {key.generation for key in keys if key.purpose == purpose}
            if generation not in generations:
                raise StateError(f"the keyring has no generation {generation} of {purpose!r}; look at its status")
            if generation == max(generations):
                raise StateError(f"generation {generation} of {purpose!r} is the newest; rotate before you drop it")
            return tuple(key for key in keys if (key.purpose, key.generation) != (purpose, generation))

        self._file.change(edit)
        self._adopt()

    def rekey(self, new_kek: Kek) -> None:
        """Wraps every key under another KEK, in one write. On StateError the old one still opens the file.

        The old KEK must be there. Keep it until the last backup that needs it is gone.
        """

        def edit(keys: Keys) -> Keys:
            return tuple(wrap_key(plain_key(key, self._kek), new_kek) for key in keys)

        self._file.change(edit)
        self._adopt(new_kek)

    def due(self, now: datetime, max_age: timedelta) -> tuple[Purpose, ...]:
        """Purposes to rotate: their newest key is older than `max_age`, or has half of its messages behind it."""
        self._adopt()
        newest = {purpose: self._newest[purpose].record for purpose in PURPOSES}
        return tuple(
            purpose
            for purpose, key in newest.items()
            if now - key.created > max_age or key.reserved >= MESSAGES_MAX // 2
        )

    def status(self) -> tuple[KeyStatus, ...]:
        """Every key of the file as it is now, by purpose and generation. Raises StateError."""
        self._adopt()
        newest = {key.record.id for key in self._newest.values()}
        records = sorted((key.record for key in self._keys.values()), key=lambda key: (key.purpose, key.generation))
        return tuple(
            KeyStatus(
                id=key.id,
                purpose=key.purpose,
                generation=key.generation,
                created=key.created,
                kek=key.kek,
                messages=key.reserved - self._left.get(key.id, 0),
                newest=key.id in newest,
            )
            for key in records
        )

    def export_plain(self) -> bytes:
        """Every key without its KEK, for a backup that must open on another host. As secret as all that they seal."""
        return msgspec.json.encode(_PlainRing(keys=tuple(plain_key(key, self._kek) for key in self._file.read())))

    @classmethod
    def import_plain(cls, path: Path, kek: Kek, blob: bytes, now: Clock) -> Keyring:
        """Makes the file at `path` from an export. Raises StateError, also where there is one already.

        Every purpose gets a new key on top: how many messages the exporting host sealed since is not known here.
        """
        try:
            plain = msgspec.json.decode(blob, type=_PlainRing).keys
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # msgspec names the field and the type it found, never a value.
            raise StateError(f"this is no export of a keyring ({error}); take another backup") from error
        if path.exists():
            raise StateError(f"{path} exists already; import into an empty state directory")
        ring = cls(KeyringFile(path), kek, now)

        def edit(keys: Keys) -> Keys:
            assert not keys, "nobody else founds a keyring here"
            old = tuple(wrap_key(key, kek) for key in plain)
            newest: dict[str, int] = dict.fromkeys(PURPOSES, 0)
            for key in plain:
                newest[key.purpose] = max(newest.get(key.purpose, 0), key.generation)
            return (*old, *(ring._new_key(purpose, generation + 1) for purpose, generation in newest.items()))

        ring._file.change(edit, create=True)
        return cls.open(path, kek, now, create=False)

    def __repr__(self) -> str:
        return f"Keyring({str(self._file.path)!r}, {len(self._keys)} keys)"

    def _key_of(self, purpose: Purpose, record_id: str, sealed: bytes) -> DataKey:
        if len(sealed) < OVERHEAD_BYTES or sealed[:1] != VERSION:
            raise StateError(
                f"{_named(purpose, record_id)} is damaged, or not sealed by this appliance; restore it from a backup"
            )
        key_id = sealed[1:HEADER_BYTES].hex()
        if (key := self._keys.get(key_id)) is None:
            self._adopt()
            key = self._keys.get(key_id)
        if key is None or key.record.purpose != purpose:
            raise StateError(
                f"{_named(purpose, record_id)} needs the key {key_id}, and the keyring has none of this id and "
                "purpose: it was dropped, or the record is damaged or from elsewhere; restore both from the same backup"
            )
        return key

    def _adopt(self, kek: Kek | None = None) -> None:
        with self._lock:
            self._kek = kek or self._kek
            self._follow()

    def _follow(self) -> None:
        """Reads the file where it changed. The caller holds the lock.

        The signature is taken first: a change while we read shows at the next look.
        """
        signature = self._file.signature()
        if signature == self._signature:
            return
        keys: dict[str, DataKey] = {}
        newest: dict[str, DataKey] = {}
        for record in self._file.read():
            known = self._keys.get(record.id)
            key = DataKey.of(record, self._kek) if known is None else replace(known, record=record)
            keys[record.id] = key
            if record.purpose not in newest or newest[record.purpose].record.generation < record.generation:
                newest[record.purpose] = key
        if missing := set(PURPOSES) - newest.keys():
            raise StateError(f"{self._file.path} has no key for {', '.join(sorted(missing))}; restore it from a backup")
        self._keys, self._newest, self._signature = keys, newest, signature
        self._left = {key_id: left for key_id, left in self._left.items() if key_id in keys}

    def _reserve(self, key: DataKey) -> int:
        """Counts the next RESERVE messages of `key` in the file. The caller holds the lock."""
        record = key.record

        def edit(keys: Keys) -> Keys:
            if record.id not in {each.id for each in keys}:
                raise StateError(f"the key of {record.purpose!r} was dropped a moment ago; seal again")
            return tuple(_reserved(each) if each.id == record.id else each for each in keys)

        self._file.change(edit)
        self._follow()
        return RESERVE

    def _check_kek(self, keys: Keys) -> None:
        """Another process may have wrapped the ring under another KEK; a mixture would open with neither."""
        unwrap_key(keys[0], self._kek)

    def _with_first_keys(self, keys: Keys, purposes: set[Purpose]) -> Keys:
        """Another process may have made some of them meanwhile."""
        made = {key.purpose for key in keys}
        if keys:
            self._check_kek(keys)
        return (*keys, *(self._new_key(purpose, 1) for purpose in sorted(purposes) if purpose not in made))

    def _new_key(self, purpose: str, generation: int) -> WrappedKey:
        return wrap_key(
            PlainKey(
                id=secrets.token_hex(8),
                purpose=purpose,
                generation=generation,
                created=self._now(),
                reserved=0,
                key=secrets.token_bytes(KEY_BYTES),
            ),
            self._kek,
        )


@dataclass(frozen=True, slots=True)
class PurposeCipher:
    """A keyring bound to one purpose; what code that stores records is given."""

    keyring: Keyring
    purpose: Purpose

    def seal(self, record_id: str, plaintext: bytes) -> bytes:
        """As Keyring.seal."""
        return self.keyring.seal(self.purpose, record_id, plaintext)

    def unseal(self, record_id: str, sealed: bytes) -> bytes:
        """As Keyring.unseal."""
        return self.keyring.unseal(self.purpose, record_id, sealed)

    def is_current(self, sealed: bytes) -> bool:
        """As Keyring.is_current."""
        return self.keyring.is_current(self.purpose, sealed)


def _data(purpose: str, record_id: str, key: DataKey) -> bytes:
    return f"{purpose}|{record_id}|{key.record.id}".encode()


def _named(purpose: str, record_id: str) -> str:
    return f"the {purpose} record {safe_text(record_id)!r}"


def _reserved(key: WrappedKey) -> WrappedKey:
    if key.reserved + RESERVE > MESSAGES_MAX:
        raise StateError(
            f"the key of {key.purpose!r}, generation {key.generation}, has sealed as many messages as one key may; "
            f"rotate {key.purpose!r}"
        )
    return msgspec.structs.replace(key, reserved=key.reserved + RESERVE)
