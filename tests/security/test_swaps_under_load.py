"""Everything that can be replaced is replaced again and again, and nobody who may be there notices."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from appliance.admin_client import AdminClient
from tests.e2e.appliance_process import Appliance
from tests.ports import free_port
from tests.security.daemons import (
    add_client,
    admin_of,
    ask,
    caller,
    scripted_appliance,
    text_of,
    until,
    verified,
    write_files,
)

CLIENTS = 6
SWAPS_PER_ROUND = 6
ROUNDS = 34  # 204 swaps
REQUESTS_PER_CONNECTION = 10
WORDS = 500

_log = logging.getLogger(__name__)


@dataclass
class Load:
    """What the clients did. bundles: counts how often a client's bundle was renewed; used: which of them it is at."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    bundles: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    served: int = 0
    streams: int = 0
    failures: list[str] = field(default_factory=list)


@pytest.mark.slow
async def test_swaps_under_load(tmp_path: Path) -> None:
    """The server certificate, the client CA through all its phases, and the allowlist; six clients and a stream.

    The stream is of a client without a certificate: the last phase ends connections that showed one of the old CA.
    """
    port = free_port()
    config = (
        "listeners:\n"
        "  api: {allow: [127.0.0.1]}\n"
        f"  people: {{port: {port}, mode: key, allow: [127.0.0.1]}}\n"
        # Six clients that connect anew for every tenth request are more than the gate takes of one address. One of them
        # is always shaking hands, whenever the machine stands still.
        "connections: {address_per_second: 10000, address_burst: 10000, handshake_seconds: 60}\n"
    )
    with scripted_appliance(tmp_path / "a", config) as appliance:
        names = [f"client-{number}" for number in range(CLIENTS)]
        for name in names:
            await add_client(appliance, name)
        load = Load(bundles=dict.fromkeys(names, 0))
        undisturbed = await one_stream(appliance, port)
        assert undisturbed == "".join(f"{number} " for number in range(WORDS))
        began = time.monotonic()
        async with asyncio.TaskGroup() as group, admin_of(appliance) as admin:
            for name in names:
                group.create_task(hammer(appliance, name, load))
            group.create_task(stream_on(appliance, port, undisturbed, load))
            try:
                for number in range(ROUNDS):
                    await swap_everything(appliance, admin, number, load)
            finally:
                load.stop.set()
        seconds = time.monotonic() - began
        swaps = ROUNDS * SWAPS_PER_ROUND
        _log.info(
            "%d swaps in %.1f s (%.1f/s): %d requests and %d streams, %d failed",
            *(swaps, seconds, swaps / seconds, load.served, load.streams, len(load.failures)),
        )
        assert not load.failures
        assert swaps >= 200
        assert load.served > swaps
        assert load.streams >= 1
        assert "Traceback" not in appliance.log
    verified(appliance.state)


async def swap_everything(appliance: Appliance, admin: AdminClient, number: int, load: Load) -> None:
    """One round; every `post` but the first of the allowlist and the renewals replaces what decides."""
    await admin.post("/server/renew", {})
    for step in ("start", "issue"):
        await admin.post("/authorities/client/rotation", {"step": step})
    for name in load.bundles:
        write_files(appliance.bundle(name), await admin.post(f"/clients/{name}/renew", {}))
        load.bundles[name] += 1

    async def all_use_theirs() -> bool:
        return load.used == load.bundles

    await until(all_use_theirs)
    # Everybody was here lately with a certificate of the old one.
    answer = await admin.post("/authorities/client/rotation", {"step": "finalize", "force": True})
    assert answer["cut"] == 0, answer
    entry = "192.0.2.0/24"
    change = {"remove": [entry]} if number % 2 else {"add": [{"network": entry}]}
    await admin.post("/allowlist/stage", change)
    await admin.post("/allowlist/apply", {"confirm_seconds": 60})
    # Over a new connection, as an administrator must.
    async with admin_of(appliance) as confirming:
        await confirming.post("/allowlist/confirm", {})


async def hammer(appliance: Appliance, name: str, load: Load) -> None:
    """One request after the other; a new connection for every tenth, and where the bundle has changed."""
    while not load.stop.is_set():
        generation = load.bundles[name]
        async with caller(appliance, name) as session:
            # The last connection with what it had before is closed.
            load.used[name] = generation
            for _ in range(REQUESTS_PER_CONNECTION):
                if load.bundles[name] != generation:
                    break
                try:
                    async with ask(session) as answer:
                        body = await answer.text()
                        if answer.status != 200:
                            load.failures.append(body)
                except (aiohttp.ClientError, OSError) as error:
                    load.failures.append(repr(error))
                load.served += 1


async def stream_on(appliance: Appliance, port: int, expected: str, load: Load) -> None:
    while not load.stop.is_set():
        said = await one_stream(appliance, port)
        if said != expected:
            load.failures.append(f"a stream said {said!r}")
        load.streams += 1


async def one_stream(appliance: Appliance, port: int) -> str:
    """All that one stream of some seconds says."""
    script = " ".join(f"say:{number}_ sleep:0.01" for number in range(WORDS))
    bearer = f"Bearer {appliance.key()}"
    async with (
        caller(appliance, None, url=f"https://127.0.0.1:{port}", authorization=bearer) as session,
        ask(session, script, stream=True) as answer,
    ):
        return text_of(await answer.text())
