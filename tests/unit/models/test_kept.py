"""appliance.models.kept; that a worker really goes on is in tests/engine/test_kept_workers.py."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from appliance.alias_spec import ModelsFile
from appliance.config import RequestLimits, WorkerLimits
from appliance.models.file_identity import FileIdentity
from appliance.models.instance import ModelInstance
from appliance.models.kept import KEPT_PREFIX, KeptWorkers
from appliance.models.provenance import Provenance
from appliance.models.registry import Means
from appliance.models.router import Router
from appliance.models.snapshot import InstanceState
from appliance.systemd import PassedFd, ServiceManager
from appliance.types import ModelInfo, ModelSpec
from appliance.wire import Loaded, encode
from tests.fakes.forking_launcher import ForkingLauncher
from tests.fakes.scripted_worker import INFO
from tests.waiting import until

FILE = FileIdentity(bytes=1, files=((1, 2, 3),))


def kept(*passed: PassedFd, release: str = "1") -> KeptWorkers:
    return KeptWorkers(ServiceManager(None), passed, release)


def spec(**fields: object) -> ModelSpec:
    return ModelSpec(id="m", path="/m.gguf", **fields)  # type: ignore[arg-type]


def line() -> tuple[socket.socket, int]:
    """The worker's end, and the descriptor of ours."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    return theirs, ours.detach()


def test_a_name_stands_for_all_that_was_loaded_and_for_nothing_else() -> None:
    name = kept().name_of(spec(), WorkerLimits(), FILE)
    assert name.startswith(KEPT_PREFIX)
    assert kept().name_of(spec(pinned=True, preload=True, ttl=5.0, aliases=("x",)), WorkerLimits(), FILE) == name
    others = [
        kept(release="2").name_of(spec(), WorkerLimits(), FILE),
        kept().name_of(spec(n_ctx=1024), WorkerLimits(), FILE),
        kept().name_of(spec(), WorkerLimits(step_seconds_max=1), FILE),
        kept().name_of(spec(), WorkerLimits(), FileIdentity(bytes=1, files=((9, 2, 3),))),
        kept().name_of(spec(), WorkerLimits(), None),
    ]
    assert len({name, *others}) == len(others) + 1


async def test_what_nobody_wants_is_ended_and_the_rest_is_taken_once() -> None:
    (wanted, first), (unwanted, second) = line(), line()
    with wanted, unwanted:
        workers = kept(PassedFd("model-a", first), PassedFd("model-b", second))
        workers.end_others({"model-a", "model-c"})
        assert unwanted.recv(1) == b""
        assert workers.has("model-a") and not workers.has("model-b")
        link = workers.take("model-a")
        assert link is not None and link.kept
        assert workers.take("model-a") is None
        assert wanted.recv(1) == b"\n"
        await link.leave()


async def test_of_two_lines_of_one_name_one_is_too_many() -> None:
    (one, first), (other, second) = line(), line()
    with one, other:
        workers = kept(PassedFd("model-a", first), PassedFd("model-a", second))
        assert other.recv(1) == b""
        workers.end_others(())
        assert one.recv(1) == b""


async def test_a_worker_that_has_gone_is_none() -> None:
    gone, fd = line()
    gone.close()
    assert kept(PassedFd("model-a", fd)).take("model-a") is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("parting", [False, True])
async def test_only_who_parts_leaves_a_worker(parting: bool) -> None:
    worker, fd = line()
    with worker, socket.socket(fileno=os.dup(fd)):  # the manager's copy
        workers = kept(PassedFd("model-a", fd))
        link = workers.take("model-a")
        assert link is not None
        _, (stream,), _, _ = socket.recv_fds(worker, 1, 1)
        with socket.socket(fileno=stream) as connection:
            if parting:
                workers.part()
                await workers.close(link)
                worker.setblocking(False)
                with pytest.raises(BlockingIOError):
                    worker.recv(1)
            else:
                link.hang_up()
                assert worker.recv(1) == b""
            assert connection.recv(1) == b""
        await link.close()


async def test_what_a_worker_has_loaded_stands_in_its_name_and_is_not_for_it_to_say() -> None:
    worker, fd = line()
    told, read = list[ModelSpec](), list[str]()

    async def resumed(spec: ModelSpec, info: ModelInfo) -> None:
        told.append(spec)

    async def sha256_of(path: str) -> None:
        read.append(path)

    configured = spec(n_ctx=1024)
    workers = kept(PassedFd(kept().name_of(configured, WorkerLimits(), None), fd))
    one = ModelInstance(
        configured, ForkingLauncher(), WorkerLimits(), provenance=Provenance(sha256_of=sha256_of), kept=workers
    )
    one.loader.resumed = resumed
    with worker:
        one.start()
        _, (stream,), _, _ = await asyncio.to_thread(socket.recv_fds, worker, 1, 1)
        with socket.socket(fileno=stream) as connection:
            said = ModelSpec(
                id="other", path="/etc/passwd", n_ctx=64, n_gpu_layers=3, tensor_split=(3.0,), n_ubatch=128
            )
            connection.sendall(encode(Loaded(info=INFO, spec=said)))
            await until(lambda: one.settled.is_set() and read)
            workers.part()
            await one.close(0)
    # But for where it was placed, and how much smaller than configured.
    assert told == [spec(n_ctx=1024, n_gpu_layers=3, tensor_split=(3.0,), n_ubatch=128)]
    assert read == [configured.path]


async def test_a_worker_that_stayed_has_its_room_from_the_start() -> None:
    """Another one of its group waits until it can leave, and does not come beside it."""
    stayed, other = spec(group="g"), ModelSpec(id="other", path="/m.gguf", group="g", preload=True)
    worker, fd = line()
    workers = kept(PassedFd(kept().name_of(stayed, WorkerLimits(), None), fd))
    router = Router(ModelsFile(models=(other, stayed)), RequestLimits(), Means(ForkingLauncher(), kept=workers))
    with worker:
        router.start()
        _, (stream,), _, _ = await asyncio.to_thread(socket.recv_fds, worker, 1, 1)
        with socket.socket(fileno=stream) as connection:
            instance = router.registry.instance("other")
            assert instance is not None
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await instance.settled.wait()
            connection.sendall(encode(Loaded(info=INFO, spec=stayed)))
            assert await asyncio.to_thread(worker.recv, 1) == b""
        await until(instance.settled.is_set)
        states = {model: seen.state for model, seen in router.snapshots().items()}
        await router.close(0)
    assert states == {"m": InstanceState.STOPPED, "other": InstanceState.READY}
