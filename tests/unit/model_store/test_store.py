"""appliance.model_store.store"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import ChangeRefused, LoadError, StateError
from appliance.model_store.hashes import SIGNATURE, SUMS, sums_text
from appliance.model_store.manifest import FILE
from appliance.model_store.signing import Signer
from appliance.model_store.source import open_source
from appliance.model_store.store import ModelStore, recheck
from tests.models.random_weights import build_random
from tests.unit.model_store.conftest import NOW, Put, signer, small_model

KEY = Ed25519PrivateKey.generate()


def nothing(count: int) -> None:
    """Does not look."""


def below(store: ModelStore) -> list[str]:
    return sorted(str(path.relative_to(store.folder)) for path in store.folder.rglob("*"))


def test_a_model_is_there_as_a_whole(store: ModelStore, source: Path, put: Put) -> None:
    manifest = put()
    assert below(store) == ["small", f"small/{SUMS}", f"small/{FILE}", "small/small.gguf"]
    assert store.names() == ["small"]
    assert store.manifest("small") == manifest
    assert manifest.hashes == {"small.gguf": hashlib.sha256(source.read_bytes()).hexdigest()}
    assert (manifest.license, manifest.bytes) == ("apache-2.0", source.stat().st_size)
    assert store.header(manifest)[1].license == "apache-2.0"
    copy = store.path(manifest)
    assert copy.read_bytes() == source.read_bytes()
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o640, 0o750)
    assert source.exists(), "copied, not moved"


def test_what_a_crash_leaves_is_no_model(store: ModelStore, put: Put) -> None:
    put()
    (store.folder / "small").rename(store.folder / ".small.0123.tmp")
    assert store.names() == []


def test_nothing_stays_of_one_that_fails(store: ModelStore, source: Path) -> None:
    def cancelled(count: int) -> None:
        raise ChangeRefused("conflict", "it was cancelled")

    def shrinking(count: int) -> None:
        os.truncate(source, 10)

    for progress, reason in ((cancelled, "cancelled"), (shrinking, "small.gguf changed while it was read")):
        with open_source(source) as opened, pytest.raises(ChangeRefused, match=reason):
            store.stage(opened, "small", progress)
        assert below(store) == []


def test_the_copys_own_header_counts(store: ModelStore, source: Path) -> None:
    """Somebody swaps the file's content, same length, once its header was read."""
    with open_source(source) as opened:
        before = source.stat()
        source.write_bytes(b"GGUF" + bytes(before.st_size - 4))
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ChangeRefused, match=r"small\.gguf is refused: it is of GGUF version 0"):
            store.stage(opened, "small", nothing)
    assert below(store) == []


def test_names_and_room_are_looked_at_before(store: ModelStore, put: Put) -> None:
    put()
    with pytest.raises(ChangeRefused, match="a model 'small' is there already"):
        store.check_room("small", 1, 0)
    for name in ("../x", "/x", ".x", "small/x"):
        with pytest.raises(ChangeRefused, match="cannot be a model's name"):
            store.check_room(name, 1, 0)
    store.check_room("other", 1, 0)
    with pytest.raises(ChangeRefused, match=r"it takes 1073741824\.0 GiB, and .* must stay free"):
        store.check_room("other", 2**60, 0)
    with pytest.raises(ChangeRefused, match="must stay free"):
        store.check_room("other", 0, 2**62)


def test_a_name_that_was_taken_meanwhile(store: ModelStore, source: Path, put: Put) -> None:
    with open_source(source) as opened:
        staged = store.stage(opened, "small", nothing)
    manifest = put()
    with pytest.raises(ChangeRefused, match="cannot be made"):
        store.place(staged, manifest, None)
    store.discard(staged.folder)
    assert store.manifest("small") == manifest


def replaced(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def touched(path: Path) -> None:
    os.utime(path)


def rewritten_with_its_old_time(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def gone(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    other = path.with_name("other")
    path.rename(other)
    path.symlink_to(other)


@pytest.mark.parametrize("change", [replaced, touched, rewritten_with_its_old_time, gone, link])
def test_a_file_that_was_touched_is_not_loaded(store: ModelStore, put: Put, change: Callable[[Path], None]) -> None:
    path = store.path(put())
    store.check_unchanged(path)
    change(path)
    with pytest.raises(LoadError, match=r"`appliance models verify small` says whether|is no file of the imported"):
        store.check_unchanged(path)


def test_every_part_is_looked_at(store: ModelStore, tmp_path: Path, put: Put) -> None:
    build_random(tmp_path / "big.gguf", tensors_per_file=6)
    manifest = put(tmp_path / "big-00001-of-00004.gguf", "big")
    store.check_unchanged(store.path(manifest))
    touched(store.folder / "big" / "big-00003-of-00004.gguf")
    with pytest.raises(LoadError, match=r"big-00003-of-00004\.gguf was changed"):
        store.check_unchanged(store.path(manifest))


def test_what_else_lies_in_the_store_is_not_loaded(store: ModelStore, source: Path, put: Put) -> None:
    put()
    store.check_unchanged(source)
    store.check_unchanged(source.with_name("missing.gguf"))
    for path in (store.folder / "bare.gguf", store.folder / "small" / "more.gguf", store.folder / ".x" / "m.gguf"):
        path.parent.mkdir(exist_ok=True)
        shutil.copy(source, path)
        with pytest.raises(LoadError, match=r"was not imported|is no file of the imported model"):
            store.check_unchanged(path)
    around = source.with_name("around.gguf")
    around.symlink_to(store.folder / "bare.gguf")
    for path in (around, store.folder):
        with pytest.raises(LoadError, match="was not imported"):
            store.check_unchanged(path)


def test_verifying_tells_touched_from_changed(store: ModelStore, put: Put) -> None:
    path = store.path(put())
    touched(path)
    found = store.verify("small", (), nothing, lambda: NOW.replace(day=3))
    assert (found.fault, found.verified.day) == (None, 3)
    store.check_unchanged(path)
    rewritten_with_its_old_time(path)
    found = store.verify("small", (), nothing, lambda: NOW.replace(day=4))
    assert found.verified.day == 3
    assert "small.gguf has the SHA-256" in str(found.fault)
    with pytest.raises(LoadError, match=r"may not be loaded: small\.gguf has the SHA-256"):
        store.check_unchanged(path)
    path.unlink()
    assert "sees no such file" in str(store.verify("small", (), nothing, lambda: NOW).fault)
    path.write_bytes(small_model())
    assert store.verify("small", (), nothing, lambda: NOW).fault is None, "a fault is not for ever"
    store.check_unchanged(path)


def test_a_signed_model_is_held_to_what_was_signed(store: ModelStore, source: Path, put: Put) -> None:
    hashes = {source.name: hashlib.sha256(source.read_bytes()).hexdigest()}
    put(signature=KEY.sign(sums_text(hashes)), signer=signer(KEY).id)

    def verified(keys: list[Signer]) -> str | None:
        return store.verify("small", keys, nothing, lambda: NOW).fault

    assert verified([signer(KEY)]) is None
    assert verified([signer(Ed25519PrivateKey.generate())]) is None, "its key does not count any more"
    (store.folder / "small" / SIGNATURE).write_bytes(bytes(64))
    assert "not those that release signed" in str(verified([signer(KEY)]))
    (store.folder / "small" / SIGNATURE).unlink()
    assert "is missing" in str(verified([signer(KEY)]))


def test_a_crash_goes_into_quarantine_and_out_again(store: ModelStore, source: Path) -> None:
    for reason in ("signal 6", "signal 11"):
        with open_source(source) as opened:
            staged = store.stage(opened, "small", nothing)
        folder = store.quarantine(staged, reason, str(source), NOW)
    assert store.names() == []
    (found,) = store.quarantined()
    assert (found.name, found.reason, found.since) == ("small", "signal 11", NOW)
    with pytest.raises(LoadError, match="is in quarantine"):
        store.check_unchanged(folder / "small.gguf")
    store.check_there("small", quarantined=True)
    store.remove_quarantined("small")
    assert store.quarantined() == []
    with pytest.raises(ChangeRefused, match="there is no model 'small' in quarantine"):
        store.check_there("small", quarantined=True)


def test_removing(store: ModelStore, put: Put) -> None:
    path = store.path(put())
    store.remove("small")
    assert below(store) == []
    with pytest.raises(ChangeRefused, match="no model 'small' was imported"):
        store.manifest("small")
    with pytest.raises(LoadError):
        store.check_unchanged(path)
    with pytest.raises(StateError, match="cannot be removed"):
        store.remove("small")


def test_a_damaged_manifest(store: ModelStore, put: Put) -> None:
    path = store.path(put())
    (path.parent / FILE).write_text("{")
    with pytest.raises(StateError, match="import the model again"):
        store.manifest("small")
    with pytest.raises(LoadError):
        store.check_unchanged(path)


def test_a_staged_file_that_somebody_changes(store: ModelStore, source: Path) -> None:
    with open_source(source) as opened:
        staged = store.stage(opened, "small", nothing)
    recheck(staged)
    touched(staged.first)
    with pytest.raises(LoadError, match="changed while it was tried"):
        recheck(staged)


def test_what_a_worker_wrote_is_taken_as_it_is(store: ModelStore) -> None:
    folder = store.begin("new", "new.gguf")
    path = folder / "new.gguf"
    # What else a worker of another user may do with it, the umask says.
    assert (path.stat().st_mode & 0o707, folder.stat().st_mode & 0o777) == (0o600, 0o750)
    assert store.names() == []
    path.write_bytes(small_model())
    seen: list[int] = []
    staged = store.take(folder, "new", "new.gguf", seen.append)
    assert path.stat().st_mode & 0o777 == 0o640
    assert staged.files[0].sha256 == hashlib.sha256(small_model()).hexdigest()
    assert (sum(seen), staged.bytes, staged.facts.license) == (len(small_model()), len(small_model()), "apache-2.0")
    recheck(staged)


def test_a_worker_is_believed_nothing(store: ModelStore, source: Path) -> None:
    def refused(change: Callable[[Path], object]) -> str:
        folder = store.begin("new", "new.gguf")
        change(folder / "new.gguf")
        with pytest.raises(ChangeRefused) as caught:
            store.take(folder, "new", "new.gguf", nothing)
        store.discard(folder)
        return str(caught.value)

    def linked(path: Path) -> None:
        path.unlink()
        path.symlink_to(source)

    def linked_hard(path: Path) -> None:
        path.unlink()
        path.hardlink_to(source)

    assert "is a symbolic link" in refused(linked)
    assert "2 names (hard links)" in refused(linked_hard)
    assert "sees no such file" in refused(Path.unlink)
    assert "also wrote 'manifest.json'" in refused(lambda path: path.with_name(FILE).write_bytes(b"{}"))
    assert "does not begin with GGUF" in refused(lambda path: path.write_bytes(b"x" * 100))
    assert below(store) == []


def test_room_that_must_stay(store: ModelStore) -> None:
    store.check_left(0)
    with pytest.raises(ChangeRefused, match="must stay free"):
        store.check_left(2**62)


def test_how_a_smaller_model_is_made_of_any_file(store: ModelStore, put: Put, tmp_path: Path) -> None:
    put()
    assert store.quantize_command(store.folder / "small" / "small.gguf") == "appliance models quantize small --to"
    other = tmp_path / "with space" / "m-00002-of-00003.gguf"
    assert store.quantize_command(other) == (f"appliance models import '{other}' && appliance models quantize m --to")
    assert store.quantize_command(tmp_path / "no name.gguf") is None
