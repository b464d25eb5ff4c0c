"""appliance.security.credential_store"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from appliance.errors import StateError
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring
from appliance.security import credential_store
from appliance.security.allow_changes import apply_allow, stage_allow
from appliance.security.api_keys import ApiKey
from appliance.security.credential_store import RECORD_ID, CredentialStore, GenerationMismatchError
from appliance.security.credentials import AllowEntry, Credentials, StoredCrl
from appliance.security.key_changes import add_pepper, revoke_key, rotate_key
from appliance.security.revocations import revoke
from tests.unit.security.making import DAY, HOUR, NOW, Plain, founded, with_client


def ring_in(folder: Path) -> Keyring:
    folder.mkdir()
    return Keyring.open(folder / "keyring.json", FileKek.open(folder, create=True), lambda: NOW, create=True)


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return ring_in(tmp_path / "ring")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


@pytest.fixture
def store(ring: Keyring, path: Path) -> CredentialStore:
    return CredentialStore.found(path, ring.cipher("credentials"), founded())


def reopened(path: Path, ring: Keyring) -> Credentials:
    return CredentialStore.open(path, ring.cipher("credentials")).current


def revoked(document: Credentials, name: str = "demo") -> Credentials:
    return revoke(document, "principal", name, NOW, by="anna", reason="")


def test_a_document_with_everything_in_it_comes_back_equal(path: Path) -> None:
    document, client = with_client(founded())
    document = rotate_key(document, client.key.kid, ApiKey.generate(), NOW, grace=HOUR, life=90 * DAY)
    document = revoke_key(document, client.key.kid, NOW + timedelta(microseconds=1))
    document = revoke(document, "token", "t-1", NOW, by="ännä", reason="\u2028")
    document = add_pepper(revoked(document), b"p" * 32, NOW)
    document = stage_allow(
        document,
        {},
        NOW,
        add=[
            AllowEntry(network="10.0.0.0/8", comment="office"),
            AllowEntry(network="192.0.2.0/24", until=NOW + DAY),
        ],
    )
    document = apply_allow(document, NOW, HOUR)
    document = replace(document, crls=(StoredCrl(issuer_key_id="ab", data=b"\x00crl", imported=NOW),))
    CredentialStore.found(path, Plain(), document)
    found = CredentialStore.open(path, Plain()).current
    assert found == document
    revoked_at = found.keys[client.key.kid].revoked
    assert revoked_at is not None
    assert revoked_at.tzinfo is UTC
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_in_the_file_can_be_read(store: CredentialStore, path: Path) -> None:
    document = store.current
    data = path.read_bytes()
    for secret in (document.appliance_id.encode(), document.peppers[0].secret, document.seal_keys[0]):
        assert secret not in data


def test_printing_a_document_shows_no_secret() -> None:
    document, client = with_client(founded())
    shown = f"{document!r} {document.peppers} {document.server.active!r} {document.authorities['client'].current!r}"
    assert client.key.secret not in shown
    assert repr(document.peppers[0].secret) not in shown
    assert repr(document.server.active.key) not in shown
    assert len(shown) < 500


def test_a_commit_is_the_next_generation(store: CredentialStore, path: Path, ring: Keyring) -> None:
    done = store.commit(1, replace(revoked(store.current), generation=77))
    assert done.generation == 2
    assert store.current is done
    assert reopened(path, ring) == done


def test_a_commit_that_was_computed_from_an_older_one_is_refused(store: CredentialStore) -> None:
    first = store.current
    store.commit(1, revoked(first, "a"))
    for expected in (0, 1, 3):
        with pytest.raises(GenerationMismatchError, match="at generation 2") as caught:
            store.commit(expected, revoked(first, "b"))
        assert caught.value.found == 2
    assert [known.value for known in store.current.revocations] == ["a"]


@pytest.mark.parametrize("other", ["keyring", "purpose", "record"])
def test_the_wrong_key_opens_nothing(
    store: CredentialStore, path: Path, ring: Keyring, tmp_path: Path, other: str
) -> None:
    if other == "record":
        path.write_bytes(ring.seal("credentials", "secrets/other", msgspec.msgpack.encode(store.current)))
    cipher = ring_in(tmp_path / "elsewhere").cipher("credentials") if other == "keyring" else ring.cipher("credentials")
    if other == "purpose":
        cipher = ring.cipher("audit")
    with pytest.raises(StateError, match="backup"):
        CredentialStore.open(path, cipher)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_a_damaged_file_is_refused(store: CredentialStore, path: Path, ring: Keyring, damage: str) -> None:
    data = path.read_bytes()
    damaged = {
        "cut": data[:-1],
        "flipped": data[:200] + bytes([data[200] ^ 1]) + data[201:],
        "empty": b"",
        "longer": data + b"\0",
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(StateError, match="damaged"):
        reopened(path, ring)


@pytest.mark.parametrize(
    "plain",
    [b"", b"\xc1", msgspec.msgpack.encode({"version": 2}), msgspec.msgpack.encode({"generation": 1})],
    ids=["nothing", "no msgpack", "a later version", "half a document"],
)
def test_what_is_no_document_is_refused(path: Path, ring: Keyring, plain: bytes) -> None:
    path.write_bytes(ring.seal("credentials", RECORD_ID, plain))
    path.chmod(0o600)
    with pytest.raises(StateError, match="credentials is damaged"):
        reopened(path, ring)


def test_a_later_releases_fields_do_not_keep_this_one_from_starting(path: Path, ring: Keyring) -> None:
    """Access control does not go back with a release, so the release before meets what a later one wrote."""
    document, _ = with_client(founded())
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(document))
    for part in (plain, plain["server"], plain["authorities"]["client"], *plain["keys"].values(), *plain["issued"]):
        part["of_a_later_release"] = 1
    path.write_bytes(ring.seal("credentials", RECORD_ID, msgspec.msgpack.encode(plain)))
    path.chmod(0o600)
    assert reopened(path, ring) == document


def test_what_this_release_must_not_misread_is_refused(path: Path, ring: Keyring) -> None:
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(founded())) | {"version": 2}
    path.write_bytes(ring.seal("credentials", RECORD_ID, msgspec.msgpack.encode(plain)))
    path.chmod(0o600)
    with pytest.raises(StateError, match="version"):
        reopened(path, ring)


def test_a_file_that_others_could_read_is_refused(store: CredentialStore, path: Path, ring: Keyring) -> None:
    path.chmod(0o640)
    with pytest.raises(StateError, match="other users may have read it"):
        reopened(path, ring)
    path.unlink()
    with pytest.raises(StateError, match="is missing"):
        reopened(path, ring)


def test_sealing_anew_is_the_same_generation_under_the_newest_key(
    store: CredentialStore, path: Path, ring: Keyring
) -> None:
    ring.rotate("credentials")
    assert not ring.is_current("credentials", path.read_bytes())
    store.reseal()
    assert ring.is_current("credentials", path.read_bytes())
    ring.drop("credentials", 1)
    assert reopened(path, ring) == store.current
    assert store.current.generation == 1


def test_a_document_that_grows_too_large_is_refused(
    store: CredentialStore, path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_store, "FILE_BYTES_MAX", len(path.read_bytes()) + 10)
    with pytest.raises(StateError, match="would be larger"):
        store.commit(1, revoked(store.current))
    assert reopened(path, ring) == store.current == founded()


@contextlib.contextmanager
def no_room(size: int) -> Iterator[None]:
    """Files larger than this cannot be written: what a full disk is to one that writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_a_full_disk_leaves_the_generation_before(path: Path, size: int) -> None:
    store = CredentialStore.found(path, Plain(), founded())
    with no_room(size), pytest.raises(StateError, match="cannot be written: File too large"):
        store.commit(1, revoked(store.current))
    assert store.current == founded()
    assert CredentialStore.open(path, Plain()).current == founded()
    assert [entry.name for entry in path.parent.iterdir()] == ["credentials"]
    assert store.commit(1, revoked(store.current)).generation == 2


def test_a_folder_that_cannot_be_written_leaves_the_generation_before(path: Path) -> None:
    store = CredentialStore.found(path, Plain(), founded())
    path.rename(path.with_name("kept"))
    path.mkdir()
    with pytest.raises(StateError, match="cannot be written"):
        store.commit(1, revoked(store.current))
    assert store.current.generation == 1
    assert [entry.name for entry in path.parent.iterdir() if entry.name.endswith(".tmp")] == []


def commit_for_ever(store: CredentialStore, tell: int) -> None:
    """Each generation has as many revocations as its number, and is told once it is durable."""
    while True:
        number = store.current.generation
        store.commit(number, revoked(store.current, f"client-{number}"))
        os.write(tell, b".")


def test_kill_9_leaves_a_whole_generation_and_never_an_older_one(
    store: CredentialStore, path: Path, ring: Keyring
) -> None:
    chance = random.Random(1)
    before = 1
    for _ in range(12):
        heard, tell = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                commit_for_ever(CredentialStore.open(path, ring.cipher("credentials")), tell)
            finally:
                os._exit(1)
        os.close(tell)
        # On a busy machine a child takes long to begin.
        answered = before + len(os.read(heard, 1))
        time.sleep(chance.uniform(0.002, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        with os.fdopen(heard, "rb") as file:
            answered += len(file.read())
        found = reopened(path, ring)
        assert answered <= found.generation <= answered + 1
        assert [known.value for known in found.revocations] == [f"client-{n}" for n in range(1, found.generation)]
        before = found.generation
    assert before > 12


def test_sealing_anew_does_not_bring_back_the_generation_before(path: Path) -> None:
    """It is held up while it writes generation 1, and a change comes."""
    cipher, begun, go_on = Plain(), threading.Event(), threading.Event()
    store = CredentialStore.found(path, cipher, founded())

    def hold() -> None:
        cipher.trouble = lambda: None
        begun.set()
        assert go_on.wait(60)

    cipher.trouble = hold
    with ThreadPoolExecutor(2) as threads:
        resealing = threads.submit(store.reseal)
        assert begun.wait(60)
        changing = threads.submit(store.commit, 1, revoked(store.current))
        with pytest.raises(TimeoutError):
            changing.result(0.05)
        go_on.set()
        resealing.result(60)
        assert changing.result(60).generation == 2
    assert CredentialStore.open(path, Plain()).current.generation == 2
