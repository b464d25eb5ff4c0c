"""appliance.keyring.backup"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import StateError
from appliance.keyring.archive_stream import CHUNK_BYTES, EncryptingWriter
from appliance.keyring.backup import EXTRA_BYTES_MAX, Manifest, Member, restore_backup, write_backup
from appliance.keyring.file_kek import FileKek
from appliance.keyring.keyring import Keyring
from appliance.keyring.recovery import RecoverySecretKey
from appliance.state_dir import write_atomic
from tests.unit.keyring.conftest import start

SECRET = RecoverySecretKey(X25519PrivateKey.generate())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    for folder in ("pki", "secrets", "audit/segments", "store"):
        (state / folder).mkdir(parents=True)
    (state / "pki/ca.pem").write_bytes(b"certificate")
    (state / "secrets/kek.1").write_bytes(b"k" * 32)
    (state / "secrets/empty").write_bytes(b"")
    (state / "audit/segments/000001").write_bytes(bytes(200_000))
    return state


def entries(state: Path) -> Mapping[str, Path]:
    return {path.name: path for path in sorted(state.iterdir())}


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file, and None for every folder, by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_backup_is_restored(state: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    summary = write_backup(entries(state), {"keyring": b"plain keys"}, SECRET.public, archive)
    data = archive.read_bytes()
    assert (summary.size, summary.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert summary.members == 5
    assert b"certificate" not in data and b"plain keys" not in data
    given: dict[str, bytes] = {}

    def prepare(folder: Path, extra: Mapping[str, bytes]) -> None:
        given.update(extra)
        assert not (tmp_path / "new").exists()
        (folder / "prepared").write_bytes(b"")

    manifest = restore_backup(archive, SECRET, tmp_path / "new", prepare)
    assert contents(tmp_path / "new") == {**contents(state), "prepared": b""}
    assert given == {"keyring": b"plain keys"}
    assert len(manifest.members) == 5
    for path in (tmp_path / "new").rglob("*"):
        assert path.name == "prepared" or path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "new", "state"]


NAMES = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="/\\"), min_size=1, max_size=40
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=12)
@given(files=st.dictionaries(NAMES.filter(lambda name: name not in (".", "..")), st.binary(max_size=2000), max_size=3))
def test_any_names_and_contents_come_back(tmp_path: Path, files: dict[str, bytes]) -> None:
    files = {name: data for name, data in files.items() if not (name.startswith(".") and name.endswith(".tmp"))}
    base = tmp_path / os.urandom(8).hex()
    (base / "state").mkdir(parents=True)
    for name, data in files.items():
        (base / "state" / name).write_bytes(data)
    write_backup({"store": base / "state"}, {}, SECRET.public, base / "archive")
    restore_backup(base / "archive", SECRET, base / "new")
    assert contents(base / "new" / "store") == files


def test_what_is_not_wanted_is_left_out(state: Path, tmp_path: Path) -> None:
    (state / "secrets/.kek.1.0011.tmp").write_bytes(b"left behind")
    write_backup(entries(state), {}, SECRET.public, tmp_path / "archive", skip=("secrets/kek.1", "audit/segments"))
    restore_backup(tmp_path / "archive", SECRET, tmp_path / "new")
    assert set(contents(tmp_path / "new")) == {"pki", "pki/ca.pem", "secrets", "secrets/empty", "audit", "store"}


def test_a_restore_on_another_host_opens_what_was_sealed(tmp_path: Path) -> None:
    """The keyring travels without its KEK: everything sealed opens under the KEK of the new host."""
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "secrets").mkdir(parents=True)
    (old / "store").mkdir()
    ring = Keyring.open(old / "secrets/keyring.json", FileKek.open(old / "secrets", create=True), start, create=True)
    write_atomic(old / "store/file", ring.seal("credentials", "store/file", b"content"))
    write_backup(
        {"secrets": old / "secrets", "store": old / "store"},
        {"keyring": ring.export_plain()},
        SECRET.public,
        tmp_path / "archive",
        skip=("secrets/kek.1", "secrets/keyring.json", "secrets/keyring.json.lock"),
    )

    def prepare(folder: Path, extra: Mapping[str, bytes]) -> None:
        secrets = folder / "secrets"
        Keyring.import_plain(secrets / "keyring.json", FileKek.open(secrets, create=True), extra["keyring"], start)

    restore_backup(tmp_path / "archive", SECRET, new, prepare)
    ring = Keyring.open(new / "secrets/keyring.json", FileKek.open(new / "secrets", create=False), start, create=False)
    assert ring.unseal("credentials", "store/file", (new / "store/file").read_bytes()) == b"content"
    assert (new / "secrets/kek.1").read_bytes() != (old / "secrets/kek.1").read_bytes()


# --- writing


def test_nothing_but_files_and_folders_is_taken(state: Path, tmp_path: Path) -> None:
    strange = state / "store/strange"
    for kind in ("link", "pipe"):
        if kind == "link":
            strange.symlink_to("/etc/passwd")
        else:
            os.mkfifo(strange)
        with pytest.raises(StateError, match="strange is neither a file nor a folder"):
            write_backup(entries(state), {}, SECRET.public, tmp_path / "archive")
        strange.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\x1b[2J", "\u202e", b"\xff"])
def test_a_name_that_a_restore_would_refuse_is_not_taken(state: Path, tmp_path: Path, name: str | bytes) -> None:
    (state / "store" / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(StateError, match="has a name that no backup takes"):
        write_backup(entries(state), {}, SECRET.public, tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_what_is_missing_or_too_large_is_said(state: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="missing: cannot be read for the backup: No such file"):
        write_backup({"x": state / "missing"}, {}, SECRET.public, tmp_path / "archive")
    with pytest.raises(StateError, match=f"a backup takes at most {EXTRA_BYTES_MAX}"):
        write_backup({}, {"x": bytes(EXTRA_BYTES_MAX + 1)}, SECRET.public, tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


def test_a_file_that_grows_is_cut_where_it_was(tmp_path: Path) -> None:
    """The kernel's own files grow from no bytes while they are read."""
    write_backup({"proc": Path("/proc/self/status")}, {}, SECRET.public, tmp_path / "archive")
    restore_backup(tmp_path / "archive", SECRET, tmp_path / "new")
    assert (tmp_path / "new/proc").read_bytes() == b""


def test_an_older_backup_is_not_replaced(state: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"old")
    with pytest.raises(StateError, match="exists already"):
        write_backup(entries(state), {}, SECRET.public, tmp_path / "archive")
    assert (tmp_path / "archive").read_bytes() == b"old"


SCRIPT = """
import sys
from pathlib import Path
from appliance.keyring.backup import write_backup
from appliance.keyring.recovery import RecoveryPublicKey
print(flush=True)
write_backup({"state": Path(sys.argv[1])}, {}, RecoveryPublicKey.parse(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_a_killed_backup_leaves_a_whole_one_or_none(state: Path, tmp_path: Path, seed: int) -> None:
    (state / "store/large").write_bytes(bytes(40_000_000))
    command = [sys.executable, "-c", SCRIPT, str(state), SECRET.public.text, str(tmp_path / "archive")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.08))
        writer.send_signal(signal.SIGKILL)
    if (tmp_path / "archive").exists():
        restore_backup(tmp_path / "archive", SECRET, tmp_path / "new")


# --- restoring


def test_a_target_that_holds_anything_is_refused(state: Path, tmp_path: Path) -> None:
    write_backup(entries(state), {}, SECRET.public, tmp_path / "archive")
    for target in (state, tmp_path / "archive"):
        before = contents(tmp_path)
        with pytest.raises(StateError, match="is not empty"):
            restore_backup(tmp_path / "archive", SECRET, target)
        assert contents(tmp_path) == before
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(StateError, match="is not empty"):
        restore_backup(tmp_path / "archive", SECRET, tmp_path / "link")
    restore_backup(tmp_path / "archive", SECRET, tmp_path / "empty")
    assert contents(tmp_path / "empty") == contents(state)


def refuses(tmp_path: Path, message: str, prepare: Callable[[Path, Mapping[str, bytes]], None] | None = None) -> None:
    """Restoring the archive fails and leaves nothing."""
    before = contents(tmp_path)
    with pytest.raises(StateError, match=message):
        restore_backup(tmp_path / "archive", SECRET, tmp_path / "new", prepare)
    assert contents(tmp_path) == before


def test_a_cut_or_flipped_archive_restores_nothing(state: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write_backup(entries(state), {}, SECRET.public, whole)
    data = whole.read_bytes()
    chance = random.Random(1)
    for _ in range(20):
        at = chance.randrange(len(data))
        (tmp_path / "archive").write_bytes(data[:at])
        refuses(tmp_path, "take another copy")
        (tmp_path / "archive").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        refuses(tmp_path, "take another copy|find the other paper")


def test_a_preparation_that_fails_restores_nothing(state: Path, tmp_path: Path) -> None:
    write_backup(entries(state), {}, SECRET.public, tmp_path / "archive")

    def fail(folder: Path, extra: Mapping[str, bytes]) -> None:
        (folder / "half").write_bytes(b"")
        raise StateError("the token was pulled")

    refuses(tmp_path, "the token was pulled", fail)


def file(name: str, data: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, data


def manifest(*members: tuple[tarfile.TarInfo, bytes], folders: tuple[str, ...] = ()) -> tuple[tarfile.TarInfo, bytes]:
    """The one that belongs to these members."""
    rows = tuple(
        Member(name=info.name, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for info, data in members
    )
    return file("MANIFEST.json", msgspec.json.encode(Manifest(members=rows, folders=folders)))


def forge(path: Path, *members: tuple[tarfile.TarInfo, bytes], cut: int = 0, behind: int = 0) -> None:
    """What anyone can make who has the public key. cut: bytes that the tar lacks. behind: zeros after it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    with path.open("wb") as target:
        writer = EncryptingWriter(SECRET.public, target)
        writer.write(plain.getvalue()[: len(plain.getvalue()) - cut] + bytes(behind))
        writer.finish()


GOOD = file("state/a")


def test_a_well_made_forgery_is_a_backup(tmp_path: Path) -> None:
    forge(tmp_path / "archive", GOOD, manifest(GOOD))
    restore_backup(tmp_path / "archive", SECRET, tmp_path / "new")
    assert contents(tmp_path / "new") == {"a": b"x"}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "a",
        "../a",
        "state/../../a",
        "state//a",
        "state/./a",
        "state/a\nb",
        "state/a\\b",
        "state/" + "a/" * 40 + "a",
        "state/" + "a" * 1100,
        "extra/../a",
        "state",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    member = file(name)
    forge(tmp_path / "archive", member, manifest(member))
    refuses(tmp_path, "is not allowed; nothing was restored")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    forge(tmp_path / "archive", file("state/a", b"", type=kind, linkname="/etc/passwd"), manifest())
    refuses(tmp_path, "neither a file nor a folder")


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    member = file("state/a", b"x" * 10, pax_headers={"GNU.sparse.map": "0,10", "GNU.sparse.size": "10"})
    forge(tmp_path / "archive", member, manifest(member))
    refuses(tmp_path, "neither a file nor a folder")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((GOOD,), "it has no manifest"),
        ((GOOD, GOOD, manifest(GOOD, GOOD)), "is there twice"),
        ((GOOD, manifest()), "its files are not those of its manifest"),
        ((manifest(GOOD),), "its files are not those of its manifest"),
        ((GOOD, manifest(file("state/a", b"y"))), "its files are not those of its manifest"),
        ((GOOD, manifest(GOOD), file("state/b")), "something comes after its manifest"),
        ((GOOD, file("MANIFEST.json", b"{}")), "its manifest is damaged"),
        ((GOOD, file("MANIFEST.json", b"\xff")), "its manifest is damaged"),
        ((GOOD, file("state/a/b"), manifest(GOOD)), "cannot be restored: (Not a directory|File exists)"),
        ((file("extra/a", b"", type=tarfile.DIRTYPE), manifest()), "neither a file nor a folder"),
        ((file("extra/a", bytes(EXTRA_BYTES_MAX + 1)), manifest()), "is too large"),
        ((), "it has no manifest"),
    ],
)
def test_what_is_not_as_its_manifest_says_is_refused(
    tmp_path: Path, members: tuple[tuple[tarfile.TarInfo, bytes], ...], message: str
) -> None:
    forge(tmp_path / "archive", *members)
    refuses(tmp_path, message)


def test_a_cut_behind_all_that_is_needed_is_refused_too(tmp_path: Path) -> None:
    forge(tmp_path / "archive", GOOD, manifest(GOOD), behind=8 * CHUNK_BYTES)
    whole = (tmp_path / "archive").read_bytes()
    (tmp_path / "archive").write_bytes(whole[: -CHUNK_BYTES // 2])
    refuses(tmp_path, "cut short")
    (tmp_path / "archive").write_bytes(whole)
    restore_backup(tmp_path / "archive", SECRET, tmp_path / "new")


def test_a_tar_that_breaks_off_is_refused(tmp_path: Path) -> None:
    member = file("state/a", bytes(5000))
    forge(tmp_path / "archive", member, manifest(member), cut=9000)
    refuses(tmp_path, "its contents are damaged|has no manifest|not those of its manifest")
