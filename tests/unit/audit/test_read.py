"""appliance.audit.read"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from appliance.audit import read
from appliance.audit.read import EVERYTHING, RecordFilter, export, tail
from appliance.audit.record import AuditEvent, decode_body
from appliance.errors import StateError
from tests.unit.audit.making import Site, three_segments, to_datetime


def test_export_gives_every_body_oldest_first(site: Site) -> None:
    three_segments(site)
    lines = list(export(site.folder, site.cipher))
    bodies = [line.removesuffix(b"\n") for line in lines]
    records = [decode_body(body) for body in bodies]
    assert [record.seq for record in records] == list(range(1, 42))
    for body, following in zip(bodies, records[1:], strict=False):
        assert hashlib.sha256(body).hexdigest() == following.prev


def test_tail_gives_the_newest_first_across_encrypted_segments(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    three_segments(site)
    monkeypatch.setattr(read, "_BLOCK_BYTES", 1000)
    everything = [record.seq for record in tail(site.folder, site.cipher, count=1000)]
    assert everything == list(range(41, 0, -1))
    assert [record.seq for record in tail(site.folder, site.cipher, count=3)] == [41, 40, 39]
    with site.plain(3).open("ab") as file:
        file.write(b'{"torn')
    assert [record.seq for record in tail(site.folder, site.cipher, count=1)] == [41]


def test_filters(site: Site) -> None:
    three_segments(site)
    journal = site.journal()
    moment = site.time.moment()
    journal.write([(AuditEvent(action=name, outcome="deny"), moment) for name in ("key", "key.rotate", "keyring.x")])
    journal.close()

    def actions(wanted: RecordFilter) -> list[str]:
        return [record.action for record in tail(site.folder, site.cipher, wanted, 1000)]

    assert actions(RecordFilter(action="key")) == ["key.rotate", "key"]
    assert actions(RecordFilter(outcome="deny")) == ["keyring.x", "key.rotate", "key"]
    assert len(actions(RecordFilter(principal="user:alice"))) == 36
    now = to_datetime(moment.utc)
    assert actions(RecordFilter(since=now)) == ["keyring.x", "key.rotate", "key", "audit.started"]
    until = RecordFilter(until=now - timedelta(seconds=480))
    assert len(actions(until)) == len(list(export(site.folder, site.cipher, until))) == 3 + 12
    assert actions(RecordFilter(since=now, until=now)) == []


def test_encrypted_segments_need_their_cipher(site: Site) -> None:
    three_segments(site)
    with pytest.raises(StateError, match="is encrypted"):
        list(export(site.folder, None, EVERYTHING))
    assert tail(site.folder, None, count=3)[0].seq == 41
