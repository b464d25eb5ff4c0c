from __future__ import annotations

import hashlib
from pathlib import Path

from release.lock import Pin
from release.wheels import requirements


def test_pip_is_held_to_the_very_file_that_is_carried(tmp_path: Path) -> None:
    wheel = tmp_path / "Some_Thing-1.2-py3-none-any.whl"
    wheel.write_bytes(b"content")
    pin = Pin("some-thing", "1.2", frozenset({"0" * 64}))
    digest = hashlib.sha256(b"content").hexdigest()
    assert requirements([pin], {"some-thing": wheel}) == f"some-thing==1.2 --hash=sha256:{digest}\n"
