"""The admin API as a source, against a server that says what a test tells it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from appliance.admin_client import AdminClient
from appliance.errors import ApplianceError
from appliance.telemetry.request_record import RequestRecord
from appliance.telemetry.snapshot import Snapshot
from tui.live.source import LiveSource
from tui.source import Act, ActRefused, SourceLost

SNAPSHOT = Snapshot(time=1.0, host_name="here", version="1", started=0.0)


def record(number: int) -> RequestRecord:
    return RequestRecord(
        id=f"req_{number}",
        time=float(number),
        address="10.0.0.1",
        method="POST",
        path="/v1/chat/completions",
        outcome="ok",
        status=200,
        total_seconds=0.1,
    )


@dataclass
class Server:
    """events: what each connection of the stream gets, one after the other. refused: routes that are 403."""

    events: list[list[tuple[str, object]]] = field(default_factory=list)
    requests: list[RequestRecord] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    resumed: list[str | None] = field(default_factory=list)
    posted: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    async def handle(self, http: web.Request) -> web.StreamResponse:
        name = http.match_info["name"]
        if name in self.refused:
            error = {"error": {"code": "forbidden", "message": f"{name} needs the role operator"}}
            return web.json_response(error, status=403)
        if http.method == "POST":
            self.posted.append((name, http.query_string, dict(http.headers)))
        if name == "events":
            return await self._stream(http)
        body: object = {
            "whoami": {"name": "anna", "uid": None, "roles": ["viewer"]},
            "requests": {"requests": self.requests[::-1], "before": None},
            "logs": {"lines": [{"number": 1, "time": 1.0, "level": "info", "logger": "daemon", "message": "ready"}]},
            "history": {"snapshots": [SNAPSHOT]},
        }.get(name, {})
        return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers={"ETag": '"7"'})

    async def _stream(self, http: web.Request) -> web.StreamResponse:
        self.resumed.append(http.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for number, (kind, data) in enumerate(self.events.pop(0), 1):
            body = msgspec.json.encode(data).decode()
            await response.write(f"id: {len(self.resumed)}-{number}\nevent: {kind}\ndata: {body}\n\n".encode())
        return response


@contextlib.asynccontextmanager
async def serving(server: Server, path: Path) -> AsyncIterator[LiveSource]:
    app = web.Application()
    app.router.add_route("*", "/admin/v1/{name:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    source = LiveSource(lambda: AdminClient.local(path), str(path), now=lambda: 100.0)
    yield source
    await source.close()
    await runner.cleanup()


async def test_what_was_comes_before_what_happens_and_nothing_twice(tmp_path: Path) -> None:
    server = Server(
        [[("snapshot", SNAPSHOT), ("requests", {"requests": [record(2), record(3)]})]], [record(1), record(2)]
    )
    async with serving(server, tmp_path / "s") as source:
        updates = [update async for update in source.updates()]
        assert [one.id for update in updates for one in update.requests] == ["req_1", "req_2", "req_3"]
        assert [line.message for update in updates for line in update.logs] == ["ready"]
        assert [update.snapshot for update in updates if update.snapshot] == [SNAPSHOT]


async def test_after_a_loss_it_goes_on_where_it_was(tmp_path: Path) -> None:
    server = Server(
        [
            [("snapshot", SNAPSHOT), ("requests", {"requests": [record(1)]})],
            [("requests", {"requests": [record(2)]}), ("new kind", {})],
        ]
    )
    async with serving(server, tmp_path / "s") as source:
        found = []
        for _ in range(2):
            async for update in source.updates():
                found += [one.id for one in update.requests]
            # What ended meanwhile is in the log.
            server.requests = [record(1), record(5)]
        assert server.resumed == [None, "1-2"]
        assert found == ["req_1", "req_5", "req_2"]


async def test_what_a_role_may_not_see_is_said(tmp_path: Path) -> None:
    server = Server([[("snapshot", SNAPSHOT)]], refused={"requests"})
    async with serving(server, tmp_path / "s") as source:
        async for update in source.updates():
            if update.refused is not None:
                assert update.refused == {"requests": "requests needs the role operator"}
                break
        assert (await source.identity()).via == "mtls"
        with pytest.raises(ApplianceError, match="needs the role operator"):
            await source.ask("/requests")


async def test_the_recorder_may_be_missing(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path / "s") as source:
        assert list(await source.history(3600)) == [SNAPSHOT]
        server.refused.add("history")
        assert list(await source.history(3600)) == []


async def test_an_act_is_planned_and_done_once(tmp_path: Path) -> None:
    server = Server()
    async with serving(server, tmp_path / "s") as source:
        planned = await source.plan("/keys/k/revoke", {"reason": "x"})
        assert planned.generation == 7
        await source.act(Act(path="/keys/k/revoke", key="one", body={"reason": "x"}, generation=7, approval="a"))
        (_, first, _), (_, second, headers) = server.posted
        assert (first, second) == ("plan=true", "")
        assert (headers["Idempotency-Key"], headers["If-Match"], headers["Approval"]) == ("one", '"7"', "a")
        server.refused.add("keys/k/revoke")
        with pytest.raises(ActRefused) as caught:
            await source.plan("/keys/k/revoke", {})
        assert caught.value.code == "forbidden"


async def test_nobody_there_is_a_loss(tmp_path: Path) -> None:
    source = LiveSource(lambda: AdminClient.local(tmp_path / "none"), "none")
    with pytest.raises(SourceLost, match="No such file"):
        await source.identity()
    await source.close()
