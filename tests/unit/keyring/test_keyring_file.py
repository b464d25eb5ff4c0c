"""appliance.keyring.keyring_file"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from appliance.errors import StateError
from appliance.keyring.keyring_file import KEYS_MAX, KeyringFile, Keys, WrappedKey, key_context
from appliance.state_dir import write_atomic
from tests.unit.keyring.conftest import START

KEY = WrappedKey(
    id="00112233aabbccdd", purpose="audit", generation=1, created=START, kek="file:kek.1", wrapped=b"w", reserved=0
)


def add(keys: Keys) -> Keys:
    return (*keys, msgspec.structs.replace(KEY, id=f"{len(keys):016x}", generation=len(keys) + 1))


@pytest.fixture
def file(path: Path) -> KeyringFile:
    file = KeyringFile(path)
    file.change(lambda _: (KEY,), create=True)
    return file


def test_what_is_written_is_read(file: KeyringFile) -> None:
    assert file.read() == (KEY,)
    assert KEY.context == key_context("audit", 1, "00112233aabbccdd") == b"keyring|audit|1|00112233aabbccdd"


def test_a_change_shows_in_the_signature_and_no_change_does_not(file: KeyringFile) -> None:
    before = file.signature()
    file.change(lambda keys: keys)
    assert file.signature() == before
    file.change(add)
    assert file.signature() != before


def test_an_edit_that_fails_changes_nothing(file: KeyringFile) -> None:
    def fail(keys: Keys) -> Keys:
        raise StateError("no")

    before = file.path.read_bytes()
    with pytest.raises(StateError, match="no"):
        file.change(fail)
    assert file.path.read_bytes() == before
    file.change(add)


def test_writers_take_turns(file: KeyringFile) -> None:
    def work() -> None:
        for _ in range(5):
            KeyringFile(file.path).change(add)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(file.read()) == 1 + 4 * 5


def test_a_later_releases_fields_are_passed_over(file: KeyringFile, path: Path) -> None:
    content = msgspec.json.decode(path.read_bytes())
    content["later"] = content["keys"][0]["later"] = 1
    path.write_bytes(msgspec.json.encode(content))
    assert file.read() == (KEY,)


def test_create_never_replaces(file: KeyringFile) -> None:
    file.change(add, create=True)
    assert len(file.read()) == 2


def test_a_missing_file_is_said(path: Path) -> None:
    with pytest.raises(StateError, match="put it back from a backup"):
        KeyringFile(path).signature()
    with pytest.raises(StateError, match="is missing"):
        KeyringFile(path).change(add)
    assert not path.exists()


def test_it_has_a_limit(file: KeyringFile) -> None:
    with pytest.raises(StateError, match=f"at most {KEYS_MAX} keys; drop old generations"):
        file.change(lambda keys: keys * (KEYS_MAX + 1))


@pytest.mark.parametrize("twice", [{"id": "ffffffffffffffff"}, {"generation": 2}])
def test_one_key_twice_is_refused(file: KeyringFile, twice: dict[str, str | int]) -> None:
    other = msgspec.structs.replace(KEY, **twice)
    with pytest.raises(StateError, match="would get one key twice"):
        file.change(lambda keys: (*keys, other))
    assert file.read() == (KEY,)
    write_atomic(file.path, msgspec.json.encode({"version": 1, "keys": [KEY, other]}))
    with pytest.raises(StateError, match="has one key twice; restore"):
        file.read()


def test_a_file_that_others_may_read_is_refused(file: KeyringFile) -> None:
    file.path.chmod(0o640)
    with pytest.raises(StateError, match="other users may have read it"):
        file.read()
