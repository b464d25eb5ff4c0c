from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from installer.bundle import open_bundle, unpack
from installer.errors import Refused
from installer.layout import Layout
from installer.manifest import NAME, SIGNATURE
from installer.trust import trusted_keys
from release.signing import public_pem
from tests.unit.installer.made import FILES, KEY, bundle

TRUSTED = {"release.pem": public_pem(KEY)}
Members = list[tuple[tarfile.TarInfo, bytes]]


def rewritten(path: Path, change: Callable[[Members], None]) -> Path:
    """The archive with its members changed, as somebody might who cannot sign."""
    with tarfile.open(path) as tar:
        members = [(member, found.read() if (found := tar.extractfile(member)) else b"") for member in tar]
    change(members)
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def plain(name: str, content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def test_what_was_signed_is_unpacked_with_its_modes(tmp_path: Path) -> None:
    opened = open_bundle(bundle(tmp_path), TRUSTED)
    unpack(opened, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES
    assert (tmp_path / "out" / NAME).read_bytes() == opened.raw_manifest
    assert (tmp_path / "out/wheels/one.whl").stat().st_mode & 0o7777 == 0o644


def test_a_manifest_that_nobody_trusted_has_signed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="signed by none"):
        open_bundle(bundle(tmp_path), {})


def swap_signature(members: Members) -> None:
    members[1] = plain(SIGNATURE, bytes(64))


def flip_manifest(members: Members) -> None:
    members[0] = plain(NAME, members[0][1].replace(b"1.0.0", b"9.0.0"))


def flip_file(members: Members) -> None:
    members[2] = (members[2][0], members[2][1][:-1] + b"!")


def shorten_file(members: Members) -> None:
    members[2] = (members[2][0], members[2][1][:-1])


def drop_file(members: Members) -> None:
    del members[-1]


def add_file(members: Members) -> None:
    members.append(plain("wheels/two.whl", b"more"))


def add_twice(members: Members) -> None:
    members.append(members[-1])


def replace_by_link(members: Members) -> None:
    members[2] = special(members[2][0].name, tarfile.SYMTYPE, "/etc/shadow")


def replace_by_device(members: Members) -> None:
    members[2] = special(members[2][0].name, tarfile.CHRTYPE)


def make_absolute(members: Members) -> None:
    members[2] = plain("/etc/cron.d/evil", members[2][1])


def climb_out(members: Members) -> None:
    members[2] = plain("../evil", members[2][1])


@pytest.mark.parametrize(
    "change",
    [
        *(swap_signature, flip_manifest, flip_file, shorten_file, drop_file, add_file, add_twice),
        *(replace_by_link, replace_by_device, make_absolute, climb_out),
    ],
)
def test_nothing_else_is_taken(tmp_path: Path, change: Callable[[Members], None]) -> None:
    with pytest.raises(Refused):
        open_bundle(rewritten(bundle(tmp_path), change), TRUSTED)


def test_modes_of_the_archive_do_not_count(tmp_path: Path) -> None:
    def set_uid(members: Members) -> None:
        members[2][0].mode = 0o4755

    unpack(open_bundle(rewritten(bundle(tmp_path), set_uid), TRUSTED), tmp_path / "out")
    assert (tmp_path / "out/appliance-setup").stat().st_mode & 0o7777 == 0o644


def test_a_stick_that_is_exchanged_after_the_check_is_noticed(tmp_path: Path) -> None:
    opened = open_bundle(bundle(tmp_path / "one"), TRUSTED)
    bundle(tmp_path / "two", version="2.0.0").replace(opened.path)
    with pytest.raises(Refused, match="has changed"):
        unpack(opened, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", bytes(20_000)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bundle.tar").write_bytes(content)
    with pytest.raises(Refused):
        open_bundle(tmp_path / "bundle.tar", TRUSTED)
    with pytest.raises(Refused, match="cannot be read"):
        open_bundle(tmp_path / "missing.tar", TRUSTED)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_as_long_as_the_stick_is_not_read(tmp_path: Path, kind: bytes) -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = kind, 2**30
    path = tmp_path / "bundle.tar"
    path.write_bytes(long.tobuf(tarfile.GNU_FORMAT))
    with path.open("r+b") as file:
        file.truncate(2**30 + 2048)
    tracemalloc.start()
    for read in (lambda: open_bundle(path, TRUSTED), lambda: trusted_keys(Layout(tmp_path), path, "", lambda _: False)):
        with pytest.raises(Refused, match="no whole bundle"):
            read()
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_bundle_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    whole = path.read_bytes()
    for size in range(512, len(whole) - 10_240, 512):
        path.write_bytes(whole[:size])
        with pytest.raises(Refused):
            open_bundle(path, TRUSTED)
