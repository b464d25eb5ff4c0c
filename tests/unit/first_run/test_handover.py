"""appliance.first_run.handover"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.first_run.answers import Answers
from appliance.first_run.files import files
from appliance.first_run.handover import HANDOVER, Handover, handover_of, read_handover


@pytest.mark.parametrize(
    ("answers", "waits"),
    [
        (Answers(), None),
        (Answers(client="webapp"), Handover(client="webapp")),
        (Answers(certificate="request"), Handover(request=True)),
        (Answers(client="webapp", certificate="request"), Handover(client="webapp", request=True)),
    ],
)
def test_what_waits_is_read_as_it_was_written(tmp_path: Path, answers: Answers, waits: Handover | None) -> None:
    assert handover_of(answers) == waits
    path = tmp_path / "first-run.json"
    if waits is not None:
        path.write_text(files(answers)[HANDOVER])
    assert read_handover(path) == waits


@pytest.mark.parametrize("content", [b"", b"{", b'{"client": "../x"}', b'{"other": 1}', b"\xff"])
def test_what_cannot_be_read_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "first-run.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match="appliance clients add"):
        read_handover(path)
