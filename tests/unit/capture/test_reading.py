"""Listing and showing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from appliance.capture import reading
from appliance.capture.day_file import frames_of
from appliance.capture.reading import CaptureFilter, heads
from tests.unit.capture.making import NOON, SECRET, Site, exchange


def test_newest_first_with_filters(site: Site) -> None:
    for day in range(3):
        at = NOON + timedelta(days=day)
        site.write(exchange(f"{day}a", at=at), exchange(f"{day}b", "bob", at=at + timedelta(hours=1)))
        site.clock.advance(days=1)
    assert site.ids() == ["2b", "2a", "1b", "1a", "0b", "0a"]
    assert site.ids(principal="bob") == ["2b", "1b", "0b"]
    assert site.ids(since=NOON + timedelta(days=1)) == ["2b", "2a", "1b", "1a"]
    assert site.ids(since=NOON + timedelta(days=1, minutes=1)) == ["2b", "2a", "1b"]
    assert site.ids(request_id="1a") == ["1a"]
    found = heads(site.folder, site.cipher, CaptureFilter(), 4)
    assert ([head.request_id for head in found.records], found.more) == (["2b", "2a", "1b", "1a"], True)
    assert not heads(site.folder, site.cipher, CaptureFilter(), 6).more
    assert site.find("missing").records == []


def test_all_requests_of_an_id_are_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client chooses its request's id and may choose one again."""
    site.write(*(exchange("same", answer=f"answer {number}") for number in range(3)))
    found = site.find("same")
    assert [captured.content.choices[0].text for captured in found.records] == ["answer 2", "answer 1", "answer 0"]
    assert SECRET in found.records[0].content.prompt
    monkeypatch.setattr(reading, "SHOWN_MAX", 2)
    assert (len(site.find("same").records), site.find("same").more) == (2, True)
    monkeypatch.setattr(reading, "SHOWN_BYTES_MAX", 1)
    assert (len(site.find("same").records), site.find("same").more) == (1, True)


def test_a_damaged_record_is_counted_and_the_others_shown(site: Site) -> None:
    site.write(*(exchange(f"r{number}") for number in range(3)))
    (path,) = site.paths
    with path.open("r+b") as file:
        frames = list(frames_of(file))
        for place in (frames[1].offset + 40, frames[2].end - 1):
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    found = heads(site.folder, site.cipher, CaptureFilter(), 10)
    assert ([head.request_id for head in found.records], found.damaged) == (["r2", "r0"], 1)
    assert (site.find("r2").records, site.find("r2").damaged) == ([], 2)
    assert len(site.find("r0").records) == 1


def test_a_renamed_file_does_not_open(site: Site) -> None:
    site.write(exchange())
    site.paths[0].rename(site.folder / "2026-11-26.000001.sealed")
    found = heads(site.folder, site.cipher, CaptureFilter(), 10)
    assert (found.records, found.damaged) == ([], 1)
