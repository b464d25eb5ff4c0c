"""The admin API on a real Unix socket: real office, files and client; of the daemon only the premises are fake."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from appliance.admin.app import AdminApi
from appliance.admin.approvals import Approvals
from appliance.admin.model_signers import read_signers
from appliance.admin.route import Route
from appliance.admin.routes import ROUTES
from appliance.admin.site import AdminSite
from appliance.admin.unix_listener import unix_listener
from appliance.admin_client import AdminClient, AdminError
from appliance.audit.read import RecordFilter, tail
from appliance.audit.record import APPLIANCE, Actor, AuditEvent, StoredRecord
from appliance.config import Config
from appliance.gguf.file_types import FILE_TYPES, file_type
from appliance.gguf.header import read_header
from appliance.gguf.quantised import quantised
from appliance.gguf.tensor_types import TENSOR_TYPES
from appliance.model_store.importing import Trial
from appliance.model_store.keeper import ModelKeeper
from appliance.model_store.quantizing import Quantizer
from appliance.model_store.store import ModelStore
from appliance.models.models_plan import ModelChange
from appliance.models.rollouts import Rollouts
from appliance.models.router import Router
from appliance.security.denied_addresses import DeniedAddress
from appliance.security.opening import Security, open_security
from appliance.state_dir import StateDir
from appliance.telemetry.request_reader import RequestReader
from appliance.types import ModelInfo, ModelSpec, QuantizeOrder
from tests.fakes.scripted_worker import INFO
from tests.models.raw_gguf import ARCHITECTURE, item, model, tensor, u32


async def rewritten(order: QuantizeOrder, progress: Callable[[int], None]) -> None:
    """A quantiser that writes the header of what was ordered, with no weights in it but zeros."""
    with open(order.source, "rb") as file:  # noqa: ASYNC230, PTH123 - some hundred bytes
        found = read_header(file)
    kind = file_type(FILE_TYPES[order.file_type])
    numbers = {known: number for number, known in TENSOR_TYPES.items()}
    tensors = tuple(
        tensor(each.name, each.shape, numbers[each.type], each.offset) for each in quantised(found, kind).tensors
    )
    metadata = (ARCHITECTURE, item("general.file_type", 4, u32(order.file_type)))
    written = model(metadata=metadata, tensors=tensors, data=sum(each.bytes for each in found.tensors))
    await asyncio.to_thread(Path(order.target).write_bytes, written)
    progress(len(written))


async def believed(path: Path, size_bytes: int) -> ModelInfo:
    """A trial that every file passes."""
    return INFO


class Clock:
    """Shows the real time, shifted."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class FakePremises:
    """What a daemon would do, as far as the admin API can tell.

    reloads: who asked, and whether by force. served: the models that a test says are served. in_use: the ids of those
    that are loaded. turned_away: whom the allowlist has, by listener.
    """

    def __init__(self, security: Security) -> None:
        self._security = security
        self.reloads: list[tuple[Actor, bool]] = []
        self.applied: list[tuple[Actor, bool]] = []
        self.served: Sequence[ModelSpec] = ()
        self.in_use: Sequence[str] = ()
        self.turned_away: dict[str, Sequence[DeniedAddress]] = {}

    async def reload(self, actor: Actor, *, force: bool) -> Mapping[str, object]:
        self.reloads.append((actor, force))
        return {"cut": 0, "restart_needed": [], "notes": []}

    async def apply_models(self, actor: Actor, *, plan: bool) -> Sequence[ModelChange]:
        self.applied.append((actor, plan))
        return (ModelChange(model="a", action="replace", what=("n_ctx",)),)

    def models(self) -> Sequence[tuple[ModelSpec, ModelInfo | None]]:
        return [(spec, None) for spec in self.served]

    def models_in_use(self, folder: Path) -> Sequence[str]:
        return self.in_use

    def port(self, listener: str) -> int | None:
        return None

    def denied(self, limit: int) -> Mapping[str, Sequence[DeniedAddress]]:
        return {name: found[:limit] for name, found in self.turned_away.items()}

    def status(self) -> Mapping[str, object]:
        return {"running": True, "generation": self._security.office.document.generation, "degraded": []}


class Desk:
    """One appliance's administration, and who may come to it."""

    def __init__(
        self,
        state: StateDir,
        config: Config,
        routes: Iterable[Route],
        path: Path,
        router: Router | None = None,
        rollouts: Rollouts | None = None,
        **others: Any,
    ) -> None:
        self.state = state
        self.path = path
        self.clock = Clock()
        self.security = open_security(state, config, state.path, {}, create=True, now=self.clock)
        self.office = self.security.office
        self.premises = FakePremises(self.security)
        self.trial: Trial = believed
        self.quantizer: Quantizer = rewritten
        self.models = ModelKeeper(
            ModelStore(state.models),
            self.office.audit,
            lambda path, size_bytes: self.trial(path, size_bytes),
            lambda order, progress: self.quantizer(order, progress),
            lambda: self.office.config,
            lambda: read_signers(self.office.config),
            self.clock,
        )
        self.site = AdminSite(
            office=self.office,
            keyring=self.security.keyring,
            models=self.models,
            state=state,
            premises=self.premises,
            approvals=Approvals(timedelta(seconds=config.admin.approval_seconds)),
            environment={},
            requests=RequestReader.of_folder(state.store),
            router=router,
            rollouts=rollouts,
            **others,
        )
        self.api = AdminApi(self.site, tuple(routes))

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        state: StateDir,
        config: Config | None = None,
        *,
        routes: Iterable[Route] = ROUTES,
        path: Path | None = None,
        router: Router | None = None,
        rollouts: Rollouts | None = None,
        **others: Any,
    ) -> AsyncIterator[Desk]:
        """Serves until the block ends. path: of the socket, elsewhere than in the state directory.

        others: fields of the site.
        """
        desk = cls(state, config or Config(), routes, path or state.run / "admin.sock", router, rollouts, **others)
        try:
            async with unix_listener(desk.api, desk.site, desk.path):
                yield desk
        finally:
            await desk.models.close()
            desk.security.close()

    def client(self) -> AdminClient:
        """As the user the test runs as."""
        return AdminClient.local(self.path)

    def session(self) -> aiohttp.ClientSession:
        """The same without the client's manners."""
        return aiohttp.ClientSession("http://appliance", connector=aiohttp.UnixConnector(str(self.path)))

    async def records(self) -> list[StoredRecord]:
        """The audit log so far, oldest first."""
        await self.office.audit.append_durably(AuditEvent(action="test.marker", outcome="ok", actor=APPLIANCE))
        found = tail(self.state.audit, self.security.keyring.cipher("audit"), RecordFilter(), 10_000)
        return [record for record in reversed(found) if record.action != "test.marker"]

    async def outcomes(self, action: str) -> list[str]:
        """What became of an action, oldest first."""
        return [record.outcome for record in await self.records() if record.action == action]


class _Connected(aiohttp.UnixConnector):
    """Uses a socket that somebody else connected."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__("/")
        self._connection = connection

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        _, protocol = await self._loop.create_unix_connection(self._factory, sock=self._connection)
        return protocol


async def refused(work: Awaitable[Any]) -> AdminError:
    """How a call was refused; fails where it was not."""
    try:
        answer = await work
    except AdminError as error:
        return error
    raise AssertionError(f"not refused: {answer}")


def client_of(connection: socket.socket) -> AdminClient:
    """A client on a connection that `connect_as` made."""
    connection.setblocking(False)
    return AdminClient(_Connected(connection), "http://appliance")


def connect_as(path: Path, uid: int, groups: Sequence[int]) -> socket.socket:
    """A connection that a process of another user made. Raises OSError as it got it. Only root may call this."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            try:
                os.setgroups(list(groups[1:]))
                os.setgid(groups[0])
                os.setuid(uid)
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.connect(os.fspath(path))
                    socket.send_fds(theirs, [b"0"], [connection.fileno()])
            except OSError as error:
                theirs.send(str(error.errno).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        answer, fds, _, _ = socket.recv_fds(ours, 16, 1)
    if not fds:
        raise OSError(int(answer), os.strerror(int(answer)))
    return socket.socket(fileno=fds[0])
