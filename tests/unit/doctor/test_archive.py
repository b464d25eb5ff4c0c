"""An archive with the hash of each of its files."""

from __future__ import annotations

import hashlib
import io
import tarfile

from appliance.doctor.archive import FILE_BYTES_MAX, MANIFEST, write_archive


def written(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    write_archive(out, "d", files, 1_763_600_000.7)
    return out.getvalue()


def test_files_and_their_hashes() -> None:
    with tarfile.open(fileobj=io.BytesIO(written({"b": b"2", "a": b"1"}))) as archive:
        names = archive.getnames()
        listed = archive.extractfile(f"d/{MANIFEST}")
        assert listed is not None
        assert listed.read().decode() == "".join(
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in (("a", b"1"), ("b", b"2"))
        )
        assert all(one.mode == 0o600 and one.uid == 0 for one in archive.getmembers())
    assert names == [f"d/{MANIFEST}", "d/a", "d/b"]


def test_the_same_files_give_the_same_bytes() -> None:
    assert written({"a": b"1", "b": b"2"}) == written({"b": b"2", "a": b"1"})


def test_of_a_large_file_the_end_stays() -> None:
    data = b"x" * FILE_BYTES_MAX + b"the end"
    with tarfile.open(fileobj=io.BytesIO(written({"log": data}))) as archive:
        found = archive.extractfile("d/log")
        assert found is not None
        text = found.read()
    assert text.startswith(b"[7 bytes before this are left out]\n") and text.endswith(b"the end")
