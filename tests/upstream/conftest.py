"""The API with a model that small servers of another make serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from appliance.models.snapshot import InstanceState
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec
from tests.api.conftest import Api, running_api
from tests.upstream.other_server import OtherServer, other_server

Served = tuple[Api, list[OtherServer]]
Serve = Callable[..., Awaitable[Served]]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.005)


def state(api: Api) -> InstanceState:
    return api.router.snapshots()["demo"].state


@asynccontextmanager
async def fronted(count: int = 1, spec: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Served]:
    """The API in front of `count` servers, all of them up. spec: fields of the model's entry."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(other_server(name=f"s{index}")) for index in range(count)]
        fields = {"model": "theirs", "aliases": ("gpt-x",), "preload": True, "probe_seconds": 0.2, **(spec or {})}
        replicas = tuple(UpstreamReplica(base_url=server.url) for server in servers)
        entry = UpstreamSpec(id="demo", **({"replicas": replicas} | fields))
        api = await stack.enter_async_context(running_api(specs=[entry], **options))
        await api.router.preloaded()
        yield api, servers


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(count: int = 1, **options: Any) -> Served:
            return await stack.enter_async_context(fronted(count, **options))

        yield start
