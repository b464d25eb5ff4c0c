"""Nothing that drives a terminal gets past the edge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import ModelFigures, Snapshot
from tui.ingest import safe, safe_update
from tui.source import LogLine, Update

HOSTILE = "a\x1b]0;owned\x07\x9b31m\u202egpj"


def test_every_string_of_a_snapshot_is_made_safe() -> None:
    snapshot = Snapshot(
        time=1.0,
        host_name=HOSTILE,
        version="1",
        started=0.0,
        models=(ModelFigures(id=HOSTILE, state="ready", aliases=(HOSTILE,)),),
        degraded=(HOSTILE,),
    )
    found = safe(snapshot)
    for text in (found.host_name, found.models[0].id, found.models[0].aliases[0], found.degraded[0]):
        assert text == "a\\x1b]0;owned\\x07\\x9b31m\\u202egpj"


def test_what_is_safe_stays_as_it_is() -> None:
    snapshot = Snapshot(
        time=1.0, host_name="a", version="1", started=0.0, models=(ModelFigures(id="m", state="ready"),)
    )
    assert safe(snapshot) == snapshot


@given(st.text(alphabet=st.sampled_from("a财 \x1b\x07\x9b\n\r\x7f\u202e\u200b\ud800"), max_size=30))
def test_requests_and_lines_are_made_safe(text: str) -> None:
    record = RequestRecord(
        id=text,
        time=0.0,
        address=text,
        method="GET",
        path=text,
        outcome="ok",
        status=200,
        total_seconds=0.0,
        model=text,
    )
    told = LogLine(time=0.0, level="info", logger=text, message=text)
    found = safe_update(Update(requests=(record,), logs=(told,)))
    shown = (found.requests[0].path, found.requests[0].model or "", found.logs[0].message)
    assert all(char.isprintable() or char == "\u3000" or not char.isascii() for one in shown for char in one)
    assert not any(char in one for one in shown for char in "\x1b\x07\x9b\n\r\u202e")


def test_the_names_that_come_with_every_request_are_kept_once() -> None:
    def record() -> RequestRecord:
        # As a decoder makes it: equal strings, and no two of them the same object.
        model, path = "".join(["qwen3", "-32b"]), "".join(["/v1/", "chat"])
        return RequestRecord(
            id="r",
            time=0.0,
            address="10.0.0.1",
            method="POST",
            path=path,
            outcome="ok",
            status=200,
            total_seconds=0.0,
            model=model,
        )

    first, second = (safe_update(Update(requests=(record(),))).requests[0] for _ in range(2))
    assert first.model is second.model
    assert first.path is second.path
