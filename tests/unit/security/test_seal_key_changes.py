"""appliance.security.seal_key_changes"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from appliance.audit.keys import SealKey
from appliance.errors import ChangeRefused
from appliance.security.credentials import Credentials
from appliance.security.seal_key_changes import SEAL_KEYS_MAX, add_seal_key, drop_unused_seal_keys
from tests.unit.security.making import founded

KEYS = [SealKey.generate() for _ in range(4)]


def holding(*keys: SealKey) -> Credentials:
    return replace(founded(), seal_keys=tuple(key.private_bytes for key in keys))


def held(document: Credentials) -> list[SealKey]:
    ids = {key.key_id: key for key in KEYS}
    return [ids[SealKey.from_bytes(secret).key_id] for secret in document.seal_keys]


def test_the_one_in_use_stays_until_the_next_rotation() -> None:
    first = add_seal_key(holding(KEYS[0]), KEYS[0].key_id, KEYS[1])
    assert held(first) == KEYS[:2]
    second = add_seal_key(first, KEYS[1].key_id, KEYS[2])
    assert held(second) == KEYS[1:3]


def test_rotations_that_the_log_did_not_take_never_drop_the_one_in_use() -> None:
    document = holding(KEYS[0])
    for fresh in KEYS[1:]:
        document = add_seal_key(document, KEYS[0].key_id, fresh)
    assert held(document) == KEYS
    assert held(drop_unused_seal_keys(document, KEYS[0].key_id)) == KEYS[:1]
    assert held(drop_unused_seal_keys(document, KEYS[2].key_id)) == KEYS[:3]


def test_nothing_is_dropped_where_nothing_is_unused_or_the_one_in_use_is_not_here() -> None:
    document = holding(*KEYS[:2])
    for in_use in (KEYS[1].key_id, KEYS[3].key_id, None):
        assert drop_unused_seal_keys(document, in_use) is document
    assert held(add_seal_key(document, None, KEYS[2])) == KEYS[:3]


def test_keys_do_not_pile_up() -> None:
    document = holding(*KEYS[:1] * SEAL_KEYS_MAX)
    with pytest.raises(ChangeRefused, match="mend it and restart first"):
        add_seal_key(document, KEYS[0].key_id, KEYS[1])
