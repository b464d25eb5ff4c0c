"""appliance.keyring.keyring"""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import StateError
from appliance.keyring.file_kek import FileKek
from appliance.keyring.kek import KekSource
from appliance.keyring.keyring import OVERHEAD_BYTES, PURPOSES, RESERVE, Keyring, Purpose
from appliance.keyring.keyring_file import MESSAGES_MAX
from appliance.state_dir import write_atomic
from tests.unit.keyring.conftest import START, new_kek, start

ONE_RING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def edit_file(path: Path, **changes: Any) -> None:
    """Changes fields of every key in the file, as a person with an editor would."""
    content = msgspec.json.decode(path.read_bytes())
    for key in content["keys"]:
        key.update(changes)
    write_atomic(path, msgspec.json.encode(content))


def messages(ring: Keyring, purpose: Purpose = "audit") -> int:
    """Of the newest key."""
    return next(key.messages for key in ring.status() if key.purpose == purpose and key.newest)


# --- sealing


@ONE_RING
@given(purpose=st.sampled_from(PURPOSES), record_id=st.text(st.characters(codec="utf-8")), plaintext=st.binary())
def test_what_it_seals_it_unseals(ring: Keyring, purpose: Purpose, record_id: str, plaintext: bytes) -> None:
    sealed = ring.seal(purpose, record_id, plaintext)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert ring.unseal(purpose, record_id, sealed) == plaintext
    assert ring.cipher(purpose).unseal(record_id, sealed) == plaintext
    assert ring.cipher(purpose).is_current(sealed)


@ONE_RING
@given(
    first=st.tuples(st.sampled_from(PURPOSES), st.text("a|b", max_size=4)),
    second=st.tuples(st.sampled_from(PURPOSES), st.text("a|b", max_size=4)),
)
def test_it_opens_as_what_it_was_sealed_alone(
    ring: Keyring, first: tuple[Purpose, str], second: tuple[Purpose, str]
) -> None:
    sealed = ring.seal(*first, b"plain")
    if first == second:
        assert ring.unseal(*second, sealed) == b"plain"
    else:
        with pytest.raises(StateError):
            ring.unseal(*second, sealed)


def test_any_flipped_byte_and_any_cut_is_found(ring: Keyring) -> None:
    sealed = ring.seal("capture", "r", b"the secret text")
    damaged = [sealed[:at] + bytes([sealed[at] ^ 0x40]) + sealed[at + 1 :] for at in range(len(sealed))]
    damaged += [sealed[:at] for at in range(len(sealed))] + [sealed + b"\0", b"\0" + sealed]
    for each in damaged:
        with pytest.raises(StateError, match="the capture record 'r'") as caught:
            ring.unseal("capture", "r", each)
        assert "secret text" not in str(caught.value)


def test_no_two_seals_are_alike(ring: Keyring) -> None:
    assert len({ring.seal("audit", "r", b"") for _ in range(1000)}) == 1000


def test_nothing_printed_shows_a_key(ring: Keyring) -> None:
    plain = msgspec.json.decode(ring.export_plain())
    shown = repr(ring) + repr(ring.status()) + repr(ring.cipher("audit"))
    for key in plain["keys"]:
        assert key["key"] not in shown


# --- the file


def test_another_start_opens_it(ring: Keyring, path: Path, kek: FileKek) -> None:
    sealed = ring.seal("credentials", "r", b"plain")
    assert Keyring.open(path, kek, start, create=False).unseal("credentials", "r", sealed) == b"plain"
    assert Keyring.open(path, kek, start, create=True).unseal("credentials", "r", sealed) == b"plain"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [(key.purpose, key.generation) for key in ring.status()] == [(purpose, 1) for purpose in sorted(PURPOSES)]
    assert {key.kek for key in ring.status()} == {f"file:{kek.id}"}


def test_a_missing_file_is_not_made_up(path: Path, kek: FileKek) -> None:
    with pytest.raises(StateError, match="is missing; restore"):
        Keyring.open(path, kek, start, create=False)
    assert not path.exists()


def test_a_file_that_goes_away_stops_sealing(ring: Keyring, path: Path) -> None:
    sealed = ring.seal("audit", "r", b"plain")
    kept = path.rename(path.with_name("kept"))
    with pytest.raises(StateError, match="put it back from a backup"):
        ring.seal("audit", "r", b"plain")
    assert ring.unseal("audit", "r", sealed) == b"plain", "what is known still opens"
    kept.rename(path)
    ring.seal("audit", "r", b"plain")


def test_another_kek_opens_nothing_and_both_are_named(ring: Keyring, path: Path, kek: FileKek, tmp_path: Path) -> None:
    other = new_kek(tmp_path / "other")
    with pytest.raises(StateError, match=f"was wrapped by file:{kek.id} and does not open with file:{other.id}"):
        Keyring.open(path, other, start, create=True)


@pytest.mark.parametrize("swapped", ["wrapped", "id", "purpose", "generation"])
def test_keys_cannot_change_places(ring: Keyring, path: Path, kek: FileKek, swapped: str) -> None:
    ring.rotate("capture")
    content = msgspec.json.decode(path.read_bytes())
    first, second = content["keys"][0], content["keys"][-1]
    first[swapped], second[swapped] = second[swapped], first[swapped]
    write_atomic(path, msgspec.json.encode(content))
    with pytest.raises(StateError, match=r"does not open with|one key twice"):
        Keyring.open(path, kek, start, create=False)


@ONE_RING
@given(data=st.data())
def test_a_damaged_file_is_refused_or_harmless(ring: Keyring, path: Path, kek: FileKek, data: st.DataObject) -> None:
    sealed = ring.seal("audit", "r", b"plain")
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[at] ^ (1 << data.draw(st.integers(0, 7)))
    damaged = path.with_name("damaged.json")
    write_atomic(damaged, whole[:at] + bytes([flipped]) + whole[at + 1 :])
    try:
        opened = Keyring.open(damaged, kek, start, create=False)
    except StateError:
        return
    assert opened.unseal("audit", "r", sealed) == b"plain"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"version":1,"keys":[]}', b'{"version":9,"keys":[]}', b"[" * 9999]
)
def test_what_is_no_ring_is_refused(path: Path, kek: FileKek, content: bytes) -> None:
    write_atomic(path, content)
    with pytest.raises(StateError, match=r"is damaged .*restore"):
        Keyring.open(path, kek, start, create=True)


def test_a_new_purpose_gets_its_key_and_an_unknown_one_stays(ring: Keyring, path: Path, kek: FileKek) -> None:
    """Versions are upgraded and rolled back."""
    content = msgspec.json.decode(path.read_bytes())
    content["keys"] = [key for key in content["keys"] if key["purpose"] != "capture"]
    write_atomic(path, msgspec.json.encode(content))
    upgraded = Keyring.open(path, kek, start, create=False)
    assert {key.purpose for key in upgraded.status()} == set(PURPOSES)
    with pytest.raises(StateError):
        Keyring.open(path, new_kek(path.with_name("k")), start, create=False)


# --- rotation


def test_older_keys_open_and_the_newest_seals(ring: Keyring, path: Path, kek: FileKek) -> None:
    sealed = [ring.seal("audit", "r", b"0")]
    for generation in (2, 3):
        assert ring.rotate("audit") == generation
        sealed.append(ring.seal("audit", "r", str(generation - 1).encode()))
    for opened in (ring, Keyring.open(path, kek, start, create=False)):
        assert [opened.unseal("audit", "r", each) for each in sealed] == [b"0", b"1", b"2"]
        assert [opened.is_current("audit", each) for each in sealed] == [False, False, True]
    assert [key.newest for key in ring.status() if key.purpose == "audit"] == [False, False, True]


def test_drop_takes_a_key_for_good_but_never_the_newest(ring: Keyring) -> None:
    sealed = ring.seal("audit", "r", b"plain")
    with pytest.raises(StateError, match="generation 1 of 'audit' is the newest; rotate"):
        ring.drop("audit", 1)
    ring.rotate("audit")
    ring.drop("audit", 1)
    with pytest.raises(StateError, match="the keyring has none of this id"):
        ring.unseal("audit", "r", sealed)
    with pytest.raises(StateError, match="no generation 1 of 'audit'"):
        ring.drop("audit", 1)
    assert ring.rotate("audit") == 3


def test_what_is_old_or_much_used_is_due(path: Path, kek: FileKek) -> None:
    now = START
    ring = Keyring.open(path, kek, lambda: now, create=True)
    limit = timedelta(days=90)
    assert ring.due(START + limit, limit) == ()
    assert ring.due(START + limit + timedelta(seconds=1), limit) == PURPOSES
    now = START + limit
    ring.rotate("audit")
    assert ring.due(START + 1.5 * limit, limit) == tuple(each for each in PURPOSES if each != "audit")
    edit_file(path, reserved=MESSAGES_MAX // 2)
    assert ring.due(now, limit) == PURPOSES


def test_rekey_moves_every_key_to_another_kek(ring: Keyring, path: Path, kek: FileKek, tmp_path: Path) -> None:
    old = ring.seal("audit", "r", b"old")
    ring.rotate("audit")
    other = new_kek(tmp_path / "other")
    ring.rekey(other)
    with pytest.raises(StateError):
        Keyring.open(path, kek, start, create=False)
    opened = Keyring.open(path, other, start, create=False)
    assert opened.unseal("audit", "r", old) == b"old"
    assert ring.rotate("audit") == 3, "the ring goes on with the new one"
    assert {key.kek for key in ring.status()} == {f"file:{other.id}"}
    assert opened.unseal("audit", "r", ring.seal("audit", "r", b"new")) == b"new"


class BrokenKek:
    """Wraps a few times, then fails or forgets."""

    source: KekSource = "pkcs11"
    id = "broken"

    def __init__(self, kek: FileKek, good: int, *, forgets: bool) -> None:
        self._kek, self._good, self._forgets = kek, good, forgets

    def wrap(self, plaintext: bytes, context: bytes) -> bytes:
        self._good -= 1
        if self._good < 0 and not self._forgets:
            raise StateError("the token was pulled")
        return self._kek.wrap(plaintext, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return b"x" * 32 if self._good < 0 else self._kek.unwrap(wrapped, context)


@pytest.mark.parametrize("forgets", [True, False])
def test_a_rekey_that_fails_changes_nothing(
    ring: Keyring, path: Path, kek: FileKek, tmp_path: Path, forgets: bool
) -> None:
    before = path.read_bytes()
    broken = BrokenKek(new_kek(tmp_path / "other"), len(PURPOSES) - 1, forgets=forgets)
    with pytest.raises(StateError, match=r"was pulled|does not give back what it wrapped"):
        ring.rekey(broken)
    assert path.read_bytes() == before
    assert ring.rotate("audit") == 2
    Keyring.open(path, kek, start, create=False)


# --- counting


def test_the_file_counts_ahead(ring: Keyring, path: Path, kek: FileKek) -> None:
    assert messages(ring) == 0
    for count in range(1, 4):
        ring.seal("audit", "r", b"")
        assert messages(ring) == count
    reopened = Keyring.open(path, kek, start, create=False)
    assert messages(reopened) == RESERVE, "whatever became of the first process"
    reopened.seal("audit", "r", b"")
    assert messages(reopened) == RESERVE + 1


def test_two_processes_count_together(ring: Keyring, path: Path, kek: FileKek) -> None:
    other = Keyring.open(path, kek, start, create=False)
    ring.seal("audit", "r", b"")
    other.seal("audit", "r", b"")
    assert messages(Keyring.open(path, kek, start, create=False)) == 2 * RESERVE


@pytest.mark.slow
def test_a_used_up_block_is_followed_by_another(ring: Keyring) -> None:
    for _ in range(RESERVE + 1):
        ring.seal("audit", "r", b"")
    assert messages(ring) == RESERVE + 1


def test_a_key_stops_at_its_limit_until_it_is_rotated(ring: Keyring, path: Path, kek: FileKek) -> None:
    edit_file(path, reserved=MESSAGES_MAX - RESERVE)
    sealed = ring.seal("audit", "r", b"plain")
    reopened = Keyring.open(path, kek, start, create=False)
    with pytest.raises(StateError, match="as many messages as one key may; rotate 'audit'"):
        reopened.seal("audit", "r", b"plain")
    assert reopened.unseal("audit", "r", sealed) == b"plain"
    reopened.rotate("audit")
    reopened.seal("audit", "r", b"plain")


# --- several at once


def test_an_open_ring_follows_another_process(ring: Keyring, path: Path, kek: FileKek) -> None:
    other = Keyring.open(path, kek, start, create=False)
    other.rotate("audit")
    assert ring.unseal("audit", "r", other.seal("audit", "r", b"plain")) == b"plain"
    other.rotate("audit")
    other.drop("audit", 1)
    assert other.is_current("audit", ring.seal("audit", "r", b"plain")), "a dropped or old key seals nothing"
    assert ring.rotate("audit") == 4
    assert [key.generation for key in other.status() if key.purpose == "audit"] == [2, 3, 4]


def test_a_ring_that_missed_a_rekey_does_not_mix_keks(ring: Keyring, path: Path, kek: FileKek, tmp_path: Path) -> None:
    other_kek = new_kek(tmp_path / "other")
    other = Keyring.open(path, kek, start, create=False)
    other.rekey(other_kek)
    ring.seal("audit", "r", b"goes on, and counts")
    with pytest.raises(StateError, match="does not open with"):
        ring.rotate("audit")
    Keyring.open(path, other_kek, start, create=False)


def test_threads_seal_and_unseal_while_it_rotates(ring: Keyring, path: Path, kek: FileKek) -> None:
    each, threads_count = 300, 4
    sealed: list[list[bytes]] = [[] for _ in range(threads_count)]
    failures: list[BaseException] = []

    def work(mine: list[bytes]) -> None:
        try:
            for number in range(each):
                mine.append(ring.seal("audit", str(number), str(number).encode()))
                assert ring.unseal("audit", str(number), mine[-1]) == str(number).encode()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in sealed]
    for thread in threads:
        thread.start()
    rotations = 1
    while any(thread.is_alive() for thread in threads):
        rotations = ring.rotate("audit")
    for thread in threads:
        thread.join()
    assert not failures
    reopened = Keyring.open(path, kek, start, create=False)
    assert all(
        reopened.unseal("audit", str(number), each) == str(number).encode()
        for mine in sealed
        for number, each in enumerate(mine)
    )
    keys = [key for key in ring.status() if key.purpose == "audit"]
    assert len(keys) == rotations
    assert sum(key.messages for key in keys) == each * threads_count


# --- export


def test_an_export_opens_under_another_kek(ring: Keyring, tmp_path: Path) -> None:
    old = ring.seal("audit", "r", b"old")
    ring.rotate("audit")
    new = ring.seal("audit", "r", b"new")
    elsewhere = Keyring.import_plain(tmp_path / "new.json", new_kek(tmp_path / "host"), ring.export_plain(), start)
    assert [elsewhere.unseal("audit", "r", each) for each in (old, new)] == [b"old", b"new"]
    assert not elsewhere.is_current("audit", new), "the other host may go on sealing with that key"
    assert [key.generation for key in elsewhere.status() if key.purpose == "audit"] == [1, 2, 3]
    with pytest.raises(StateError):
        ring.unseal("audit", "r", elsewhere.seal("audit", "r", b"x"))


def test_an_import_replaces_nothing(ring: Keyring, path: Path, kek: FileKek) -> None:
    before = path.read_bytes()
    with pytest.raises(StateError, match="exists already"):
        Keyring.import_plain(path, kek, ring.export_plain(), start)
    assert path.read_bytes() == before


@pytest.mark.parametrize("blob", [b"", b"{}", b'{"version":1,"keys":[{"key":"c2VjcmV0"}]}', b"\xff"])
def test_what_is_no_export_is_refused(path: Path, kek: FileKek, blob: bytes) -> None:
    with pytest.raises(StateError, match="no export of a keyring") as caught:
        Keyring.import_plain(path, kek, blob, start)
    assert "c2VjcmV0" not in str(caught.value)
    assert not path.exists()


def test_an_export_with_one_key_twice_is_refused(ring: Keyring, tmp_path: Path) -> None:
    content = msgspec.json.decode(ring.export_plain())
    content["keys"].append(content["keys"][0])
    with pytest.raises(StateError, match="would get one key twice"):
        Keyring.import_plain(tmp_path / "new.json", new_kek(tmp_path / "host"), msgspec.json.encode(content), start)
    assert not (tmp_path / "new.json").exists()
