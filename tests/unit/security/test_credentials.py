"""appliance.security.credentials: what an older release makes of a document."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from appliance.security.allow_changes import end_entries
from appliance.security.credentials import AllowEntry, AllowState, AllowTrial, Credentials
from tests.unit.security.making import HOUR, NOW, founded

OFFICE = AllowEntry(network="10.0.0.0/8", comment="office")
LAB = AllowEntry(network="198.51.100.0/24")
GUEST = AllowEntry(network="192.0.2.0/24", listener="api", until=NOW + HOUR)


class OldEntry(Struct, frozen=True, kw_only=True):
    """As releases have it that know of no ends."""

    network: str
    listener: str | None = None
    comment: str = ""


class OldTrial(Struct, frozen=True, kw_only=True):
    previous: tuple[OldEntry, ...]
    applied_at: datetime
    revert_at: datetime


class OldState(Struct, frozen=True, kw_only=True):
    entries: tuple[OldEntry, ...] = ()
    staged: tuple[OldEntry, ...] | None = None
    trial: OldTrial | None = None


class OldCredentials(Struct, frozen=True, kw_only=True):
    generation: int
    allow: OldState = OldState()


def everywhere() -> Credentials:
    """A document with both kinds of entries wherever entries stand."""
    both = (GUEST, OFFICE)
    trial = AllowTrial.of(both, applied_at=NOW, revert_at=NOW + HOUR)
    return replace(founded(), allow=AllowState.of(both, (*both, LAB), trial))


def test_it_comes_back_equal() -> None:
    document = everywhere()
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(document), type=Credentials)
    assert found == document
    assert set(found.allow.entries) == {OFFICE, GUEST}
    assert set(found.allow.staged or ()) == {OFFICE, GUEST, LAB}


@pytest.mark.parametrize("later", [timedelta(0), HOUR])
def test_a_release_without_ends_lets_nobody_in_for_ever(later: timedelta) -> None:
    """It does not see the entries that have one, before their end or after it: they narrow, and it must not widen."""
    document = end_entries(everywhere(), NOW + later)
    old = msgspec.msgpack.decode(msgspec.msgpack.encode(document), type=OldCredentials)
    office = OldEntry(network="10.0.0.0/8", comment="office")
    assert old.allow.entries == (office,)
    assert old.allow.staged == (office, OldEntry(network="198.51.100.0/24"))
    assert old.allow.trial is not None
    assert old.allow.trial.previous == (office,)


def test_what_a_release_without_ends_has_written_is_read() -> None:
    old = OldState(entries=(OldEntry(network="10.0.0.0/8", comment="office"),), staged=())
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(old), type=AllowState)
    assert found == AllowState.of((OFFICE,), ())


def test_no_entry_with_an_end_is_among_those_without() -> None:
    for lasting, ending, staged in (((GUEST,), (), None), ((), (OFFICE,), None), ((), (), (GUEST,))):
        with pytest.raises(ValueError, match="with an end is among those without one"):
            AllowState(lasting=lasting, ending=ending, staged_lasting=staged)
    with pytest.raises(ValueError, match="among those without one"):
        AllowTrial(lasting=(GUEST,), applied_at=NOW, revert_at=NOW)
