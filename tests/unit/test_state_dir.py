"""appliance.state_dir"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import StateError
from appliance.state_dir import StateDir, append_whole, read_private, replacing, temporary_sibling, write_atomic


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "deep" / "state")
    state.prepare()
    return state


def test_prepare_makes_private_folders(state: StateDir) -> None:
    assert {folder.stat().st_mode & 0o777 for folder in state.folders} == {0o700}
    state.prepare()


def test_check_of_a_missing_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="does not exist; check --state-dir"):
        StateDir(tmp_path / "typo").check()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
@pytest.mark.parametrize("name", [".", "secrets", "audit", "clients"])
def test_a_folder_others_can_change_is_refused(state: StateDir, name: str, mode: int) -> None:
    (state.path / name).chmod(mode)
    with pytest.raises(StateError, match="can be changed by other users"):
        state.prepare()


def test_a_symbolic_link_is_refused(state: StateDir, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(state.path)
    with pytest.raises(StateError, match="symbolic link"):
        StateDir(link).prepare()
    state.secrets.rmdir()
    state.secrets.symlink_to(tmp_path)
    with pytest.raises(StateError, match="symbolic link"):
        state.prepare()


def test_a_file_in_place_of_a_folder_is_refused(state: StateDir) -> None:
    state.audit.rmdir()
    state.audit.write_text("")
    with pytest.raises(StateError, match="not a folder"):
        state.prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused(state: StateDir) -> None:
    os.chown(state.secrets, 12345, 12345)
    with pytest.raises(StateError, match="belongs to user id 12345"):
        state.prepare()


def test_the_second_daemon_is_refused_and_told_the_pid(state: StateDir) -> None:
    with state.lock(), pytest.raises(StateError, match=rf"another daemon \(pid {os.getpid()}\)"):
        state.lock()
    state.lock().release()


def test_the_lock_ends_with_its_process(state: StateDir) -> None:
    code = (
        "import sys, pathlib; from appliance.state_dir import StateDir\n"
        "held = StateDir(pathlib.Path(sys.argv[1])).lock(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(state.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=rf"pid {other.pid}\b"):
            state.lock()
        other.kill()
    state.lock().release()


def test_lock_sweeps_what_a_crash_left(state: StateDir) -> None:
    orphan = temporary_sibling(state.secrets / "api_keys.json")
    orphan.write_text("half")
    folder = temporary_sibling(state.clients / "demo")
    folder.mkdir()
    (folder / "client.key").write_text("half")
    kept = state.secrets / ".keep"
    kept.write_text("")
    state.lock().release()
    assert not orphan.exists()
    assert not folder.exists()
    assert kept.exists()


def test_write_atomic_replaces_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomic_replaces_a_symlink_and_not_its_target(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("theirs")
    (tmp_path / "file").symlink_to(target)
    write_atomic(tmp_path / "file", b"ours")
    assert target.read_text() == "theirs"
    assert (tmp_path / "file").read_bytes() == b"ours"


def test_a_write_cut_short_leaves_the_old_file(tmp_path: Path) -> None:
    """The kernel takes the bytes up to the limit without an error, as a nearly full disk does."""
    path = tmp_path / "file"
    write_atomic(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StateError, match="cannot be written"):
            write_atomic(path, bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_added_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    assert append_whole(path, b"first\n") == 6
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="No space"):
            append_whole(path, b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert append_whole(path, b"third\n") == 12
    assert path.read_bytes() == b"first\nthird\n"


def test_a_replacement_that_is_given_up_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(ValueError, match="no"), replacing(path) as file:
        file.write(b"new")
        raise ValueError("no")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_read_private_reads_what_write_atomic_wrote(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"content")
    assert read_private(tmp_path / "file", 7) == b"content"
    with pytest.raises(StateError, match="larger than 6 bytes"):
        read_private(tmp_path / "file", 6)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_read_private_refuses_loose_modes(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"content", mode)
    with pytest.raises(StateError, match=f"mode {mode:04o}"):
        read_private(path, 100)


def test_read_private_refuses_what_is_no_file_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="is missing; restore"):
        read_private(tmp_path / "none", 100)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(StateError, match="not a regular file"):
        read_private(tmp_path / "fifo", 100)
    write_atomic(tmp_path / "file", b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(StateError, match="cannot be opened"):
        read_private(tmp_path / "link", 100)
