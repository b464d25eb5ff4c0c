"""appliance.security.api_keys"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.security.api_keys import ApiKey, KeyKind, KeyRecord, Peppers, matches

PEPPERS = Peppers({1: b"a" * 32, 2: b"b" * 32})
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = st.builds(
    lambda kind, kid, secret: ApiKey.generate(kind, {71: kid, 256: secret}.__getitem__),
    st.sampled_from(["sk", "adm"]),
    st.integers(0, 2**71 - 1),
    st.integers(0, 2**256 - 1),
)


def record_of(key: ApiKey, peppers: Peppers = PEPPERS) -> KeyRecord:
    return KeyRecord.of(key, "demo", peppers, created=NOW)


@given(KEYS)
def test_a_key_survives_its_written_form(key: ApiKey) -> None:
    text = key.reveal()
    assert ApiKey.parse(text) == key
    assert len(text) == (69 if key.kind == "sk" else 70)


@given(KEYS, st.integers(0, 69), st.characters())
def test_one_wrong_character_is_no_key(key: ApiKey, position: int, character: str) -> None:
    text = key.reveal()
    position %= len(text)
    typo = text[:position] + character + text[position + 1 :]
    assert (ApiKey.parse(typo) is None) == (typo != text)


@given(KEYS, st.integers(0, 68))
def test_a_cut_or_lengthened_key_is_no_key(key: ApiKey, length: int) -> None:
    text = key.reveal()
    for wrong in (text[:length], text + "0", " " + text, text + "\n"):
        assert ApiKey.parse(wrong) is None


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    ApiKey.parse(text)


def test_keys_differ() -> None:
    assert len({ApiKey.generate().kid for _ in range(1000)}) == 1000


@pytest.mark.parametrize("kind", ["sk", "adm"])
def test_printing_shows_no_secret(kind: KeyKind) -> None:
    key = ApiKey.generate(kind)
    assert key.secret not in repr(key)
    assert key.kid in repr(key)
    assert key.secret not in repr(record_of(key))
    assert "a" * 32 not in repr(PEPPERS)


def test_a_key_matches_its_own_record_alone() -> None:
    key, other = ApiKey.generate(), ApiKey.generate()
    assert matches(key, record_of(key), PEPPERS)
    assert not matches(ApiKey("sk", key.kid, other.secret), record_of(key), PEPPERS)
    assert not matches(key, None, PEPPERS)


def test_a_record_keeps_the_pepper_it_was_made_with() -> None:
    key = ApiKey.generate()
    old = record_of(key, Peppers({1: b"a" * 32}))
    assert old.pepper == 1
    assert record_of(key).pepper == 2
    assert matches(key, old, PEPPERS)
    assert not matches(key, old, Peppers({1: b"z" * 32}))
    assert not matches(key, old, Peppers({2: b"b" * 32}))


TIMES = st.none() | st.integers(-3, 3).map(lambda days: NOW + days * DAY)


@given(TIMES, TIMES, st.booleans())
def test_the_state_follows_from_the_times(
    not_after: datetime | None, retire_at: datetime | None, is_revoked: bool
) -> None:
    record = KeyRecord(
        kid="k", principal="demo", hmac=b"", pepper=1, created=NOW - 9 * DAY, not_after=not_after, retire_at=retire_at,
        revoked=NOW if is_revoked else None,
    )  # fmt: skip
    over = [end is not None and end <= NOW for end in (not_after, retire_at)]
    state = record.state(NOW)
    assert (state == "revoked") == is_revoked
    if not is_revoked:
        assert (state in ("active", "retiring")) == (not any(over))
        assert (state in ("retiring", "retired")) == (retire_at is not None and not (over[0] and not over[1]))
        assert (record.works_until is None or record.works_until > NOW) == (state in ("active", "retiring"))


def test_a_revoked_key_stays_revoked_when_the_clock_is_set_back() -> None:
    record = KeyRecord.of(ApiKey.generate(), "demo", PEPPERS, created=NOW, not_after=NOW + DAY)
    revoked = replace(record, revoked=NOW)
    assert {revoked.state(NOW + days * DAY) for days in range(-400, 400, 7)} == {"revoked"}
