"""The API with a model that small servers of another make serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from appliance.models.snapshot import InstanceState
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec
from tests.api.conftest import Api, few_authorities, running_api
from tests.upstream.other_server import OtherServer, other_server

__all__ = ["few_authorities"]

Served = tuple[Api, list[OtherServer]]
Serve = Callable[..., Awaitable[Served]]


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
