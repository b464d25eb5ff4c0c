"""A process that changes everything that can be changed until it is killed, and tells what it begins and has done."""

from __future__ import annotations

import asyncio
import random
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from appliance.access_config import Listener
from appliance.admin_client import AdminClient, AdminError
from appliance.config import Config
from appliance.offline import offline_admin
from appliance.state_dir import StateDir

# One listener that asks for the key alone, so that keys can be tried without a certificate.
CONFIG = Config(listeners={"api": Listener(mode="key", allow=("127.0.0.1",))})

Kind = Literal["key", "client", "revoke_key", "revoke_client", "end_authority", "other"]


class Told(Struct, frozen=True):
    """done: answered, else only begun. subject: a kid to revoke, else a client.

    key, certificate (PEM): what was handed out. generation: of the credentials, as the answer said.
    """

    done: bool
    kind: Kind
    subject: str = ""
    key: str = ""
    certificate: str = ""
    generation: int = 0


def change_for_ever(folder: Path, seed: int, told: Connection) -> None:
    """told: gets a Told before and after every change."""
    asyncio.run(_Changes(random.Random(seed), told).run(folder))


class _Changes:
    def __init__(self, chance: random.Random, told: Connection) -> None:
        self._chance = chance
        self._told = told
        self._number = 0

    async def run(self, folder: Path) -> None:
        state = StateDir(folder)
        async with offline_admin(state, CONFIG, folder, {}, create=False) as self._admin:
            self._told.send(Told(True, "other", generation=0))
            while True:
                await self._chance.choice(self._kinds())()

    def _kinds(self) -> list[Any]:
        return [
            *[self._add_key, self._rotate_key, self._add_client, self._step_authority] * 3,
            *[self._revoke_key, self._revoke_client],
            *[self._other] * 5,
        ]

    async def _add_key(self) -> None:
        self._begin("key")
        answer = await self._admin.post("/keys", {"principal": "demo"})
        self._done("key", answer["principal"], key=answer["key"])

    async def _rotate_key(self) -> None:
        kid = self._chance.choice(await self._kids())
        self._begin("key")
        try:
            answer = await self._admin.post(f"/keys/{kid}/rotate", {"grace_hours": 1.0})
        except AdminError as refused:
            # Its predecessor has grace still, or it has a successor.
            assert refused.code in ("conflict", "needs_force"), refused
        else:
            self._done("key", answer["principal"], key=answer["key"])

    async def _add_client(self) -> None:
        self._number += 1
        name = f"c-{self._chance.randrange(10**9)}-{self._number}"
        self._begin("client", name)
        files = (await self._admin.post("/clients", {"name": name}))["files"]
        self._done("client", name, key=files["api.key"].strip(), certificate=files["client.crt"])

    async def _revoke_key(self) -> None:
        kid = self._chance.choice(await self._kids())
        self._begin("revoke_key", kid)
        await self._admin.post(f"/keys/{kid}/revoke", {})
        self._done("revoke_key", kid)

    async def _revoke_client(self) -> None:
        names = [client["name"] for client in await self._admin.get("/clients") if client["name"] != "demo"]
        if names:
            name = self._chance.choice(names)
            self._begin("revoke_client", name)
            await self._admin.post(f"/clients/{name}/revoke", {})
            self._done("revoke_client", name)

    async def _step_authority(self) -> None:
        name = self._chance.choice(("client", "server", "admin"))
        found = (await self._admin.get("/certificates"))["authorities"]
        (phase,) = [one["phase"] for one in found if one["name"] == name]
        step = {"standby": "start", "trust_both": "issue", "issue_new": "finalize"}[phase]
        if phase != "standby" and self._chance.random() < 0.2:
            step = "rollback"
        kind: Kind = "end_authority" if name == "client" and step in ("finalize", "rollback") else "other"
        self._begin(kind)
        await self._admin.post(f"/authorities/{name}/rotation", {"step": step, "force": True})
        self._done(kind)

    async def _other(self) -> None:
        changes: list[tuple[str, dict[str, object]]] = [
            ("/server/renew", {}),
            ("/server/rollback", {}),
            ("/data-keys/credentials/rotate", {}),
            ("/data-keys/audit/rotate", {}),
            ("/kek/rekey", {}),
            ("/peppers/rotate", {}),
            ("/seal-key/rotate", {}),
            ("/allowlist/stage", {"add": [{"network": f"192.0.2.{self._chance.randrange(256)}"}]}),
            ("/allowlist/apply", {"confirm_seconds": 0}),
            ("/peppers/retire", {"pepper": 1}),
        ]
        path, body = self._chance.choice(changes)
        self._begin("other")
        try:
            await self._admin.post(path, body)
        except AdminError as refused:
            # Nothing staged, no previous certificate, keys that have not moved.
            assert refused.code in ("conflict", "needs_force", "not_found"), (path, refused)
        else:
            self._done("other")

    async def _kids(self) -> list[str]:
        return [key["kid"] for key in await self._admin.get("/keys")]

    def _begin(self, kind: Kind, subject: str = "") -> None:
        self._told.send(Told(False, kind, subject))

    def _done(self, kind: Kind, subject: str = "", *, key: str = "", certificate: str = "") -> None:
        self._told.send(Told(True, kind, subject, key, certificate, self._admin.generation))

    _admin: AdminClient
