"""appliance.keyring.data_key"""

from __future__ import annotations

import msgspec
import pytest

from appliance.errors import StateError
from appliance.keyring.data_key import DataKey, PlainKey, plain_key, unwrap_key, wrap_key
from appliance.keyring.file_kek import FileKek
from tests.unit.keyring.conftest import START

PLAIN = PlainKey(id="00112233aabbccdd", purpose="audit", generation=3, created=START, reserved=7, key=b"k" * 32)


def test_wrapping_is_undone(kek: FileKek) -> None:
    wrapped = wrap_key(PLAIN, kek)
    assert plain_key(wrapped, kek) == PLAIN
    assert unwrap_key(wrapped, kek) == PLAIN.key
    assert DataKey.of(wrapped, kek).header == b"\x01\x00\x11\x22\x33\xaa\xbb\xcc\xdd"


def test_it_prints_no_secret(kek: FileKek) -> None:
    assert "kkk" not in repr(PLAIN)
    assert "kkk" not in repr(DataKey.of(wrap_key(PLAIN, kek), kek))


def test_a_key_of_another_length_is_refused(kek: FileKek) -> None:
    record = wrap_key(PLAIN, kek)
    short = msgspec.structs.replace(record, wrapped=kek.wrap(b"short", record.context))
    with pytest.raises(StateError, match="is damaged"):
        unwrap_key(short, kek)
