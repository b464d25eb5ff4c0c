"""appliance.models.version_store"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.models import version_store
from appliance.models.version import ModelVersion, version_of
from appliance.models.version_store import VERSIONS_MAX, VersionStore, read_versions
from appliance.types import ModelSpec
from tests.fakes.scripted_worker import INFO

VERSION = version_of(ModelSpec(id="a", path="/a"), INFO, "c0ffee")


def version(content: str) -> ModelVersion:
    return version_of(ModelSpec(id="a", path="/a"), INFO, content)


async def test_what_is_kept_is_there_after_a_start(tmp_path: Path) -> None:
    path = tmp_path / version_store.FILE
    assert read_versions(path) == {}
    store = VersionStore(path)
    await store.keep("fp_1", VERSION)
    await store.keep("fp_2", version("other"))
    await store.keep("fp_1", VERSION)
    assert read_versions(path) == {"fp_1": VERSION, "fp_2": version("other")}
    await VersionStore(path).keep("fp_3", VERSION)
    assert list(read_versions(path)) == ["fp_1", "fp_2", "fp_3"]


async def test_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / version_store.FILE
    store = VersionStore(path)
    store._versions = {f"fp_{number}": VERSION for number in range(VERSIONS_MAX)}
    await store.keep("fp_new", VERSION)
    kept = list(read_versions(path))
    assert (len(kept), kept[0], kept[-1]) == (VERSIONS_MAX, "fp_1", "fp_new")
    assert path.stat().st_size < version_store.FILE_BYTES_MAX


async def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / version_store.FILE
    path.write_bytes(b"[")
    path.chmod(0o600)
    with pytest.raises(StateError, match="damaged"):
        read_versions(path)
    await VersionStore(path).keep("fp_1", VERSION)
    assert read_versions(path) == {"fp_1": VERSION}


async def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    store = VersionStore(folder / version_store.FILE)
    await store.keep("fp_1", VERSION)
    folder.mkdir()
    await store.keep("fp_1", VERSION)
    assert read_versions(folder / version_store.FILE) == {"fp_1": VERSION}
