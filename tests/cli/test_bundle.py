"""`appliance clients bundle`: a folder that is made whole, and from which nothing is ever lost."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from appliance.access_config import Admin
from appliance.admin.administrator import ALL_ROLES, Administrator
from appliance.config import Config
from appliance.security.api_keys import ApiKey
from appliance.security.tls import client_context
from appliance.state_dir import StateDir
from appliance.types import ModelSpec
from tests.admin.desk import Desk
from tests.cli.conftest import Command, Said

FOR_DIFY = ["DIFY.md", "docker-compose.override.yaml", "nginx.conf"]
CREDENTIALS = ["api.key", "ca.crt", "client.crt", "client.key"]
MODEL = ModelSpec(id="m", path="m.gguf")
TWO_PERSONS = ("client.renew", "key.create")


async def bundle(cli: Command, folder: Path, *options: str) -> Said:
    """The command, in a thread: the test's event loop serves it."""
    arguments = ("clients", "bundle", "demo", "--dify", "--host", "localhost", "--out", folder, *options)
    return await asyncio.to_thread(cli, *arguments)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_second_person_agrees_to_each_part_and_none_is_lost(
    cli: Command, state: StateDir, tmp_path: Path
) -> None:
    folder = tmp_path / "dify"
    async with Desk.open(state, Config(admin=Admin(two_persons=TWO_PERSONS))) as desk:
        desk.premises.served = (MODEL,)
        options: tuple[str, ...] = ()
        for action, made in (("client.renew", []), ("key.create", ["ca.crt", "client.crt", "client.key"])):
            said = await bundle(cli, folder, *options)
            asked = re.search(rf"{action} needs a second administrator.* --approval ([0-9a-f]+)\n\Z", said.err)
            assert asked is not None, said
            assert said.code == 1
            assert (names(folder) if folder.exists() else []) == made
            desk.site.approvals.approve(asked[1], Administrator("anna", ALL_ROLES, None), desk.office.now())
            options = ("--approval", asked[1])
        (await bundle(cli, folder, *options)).ok()
        assert names(folder) == sorted(CREDENTIALS + FOR_DIFY)
        client_context(folder)
        key = ApiKey.parse((folder / "api.key").read_text().strip())
        assert key is not None
        assert key.kid in desk.office.document.keys
        assert len([issued for issued in desk.office.document.issued if issued.name == "demo"]) == 2


async def test_what_the_folder_has_already_is_kept(cli: Command, state: StateDir, tmp_path: Path) -> None:
    async with Desk.open(state) as desk:
        desk.premises.served = (MODEL,)
        generation = desk.office.document.generation
        folder = state.clients / "demo"
        before = {name: (folder / name).read_bytes() for name in CREDENTIALS}
        (await bundle(cli, folder)).ok()
        assert desk.office.document.generation == generation
        assert names(folder) == sorted(CREDENTIALS + FOR_DIFY)
        assert {name: (folder / name).read_bytes() for name in CREDENTIALS} == before


async def test_nothing_is_made_for_a_host_that_is_none(cli: Command, state: StateDir, tmp_path: Path) -> None:
    async with Desk.open(state) as desk:
        generation = desk.office.document.generation
        said = await bundle(cli, tmp_path / "dify", "--host", "elsewhere.example")
        assert (said.code, "the server certificate does not name" in said.err) == (1, True)
        assert desk.office.document.generation == generation
    assert not (tmp_path / "dify").exists()


def test_credentials_alone_need_no_dify_and_no_daemon(cli: Command, tmp_path: Path) -> None:
    said = cli("clients", "bundle", "demo", "--out", tmp_path / "second").ok()
    assert names(tmp_path / "second") == CREDENTIALS
    assert said.out == f"{tmp_path / 'second'}: client.crt ca.crt client.key\n{tmp_path / 'second'}: api.key\n"
    again = cli("clients", "bundle", "demo", "--out", tmp_path / "second").ok()
    assert again.out == f"{tmp_path / 'second'}: keeps client.crt client.key ca.crt api.key\n"


def test_half_a_certificate_is_not_overwritten(cli: Command, tmp_path: Path) -> None:
    for missing, lost in (("client.key", "client.crt"), ("client.crt", "client.key")):
        folder = tmp_path / missing
        cli("clients", "renew", "demo", "--out", folder).ok()
        (folder / missing).unlink()
        said = cli("clients", "bundle", "demo", "--out", folder)
        assert (said.code, f"{folder / lost} exists and would be lost" in said.err) == (1, True)


def test_what_goes_with_dify(cli: Command, tmp_path: Path) -> None:
    for options in (
        ("--dify",),
        ("--host", "localhost"),
        ("--no-sidecar",),
        ("--port", "443"),
        ("--listener", "dify"),
    ):
        said = cli("clients", "bundle", "demo", "--out", tmp_path / "second", *options)
        assert (said.code, "--dify" in said.err) == (2, True), options
        assert not (tmp_path / "second").exists()


def test_another_clients_folder_is_left_alone(cli: Command, tmp_path: Path) -> None:
    cli("clients", "add", "one", "--out", tmp_path / "one").ok()
    said = cli("clients", "bundle", "demo", "--out", tmp_path / "one")
    assert (said.code, said.out) == (1, "")
    assert f"{tmp_path / 'one' / 'api.key'} has no API key of demo; name another folder" in said.err
