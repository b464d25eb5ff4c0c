"""What clients see when things go wrong or take long: commits, pings, crashes, limits, clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from appliance.config import RequestLimits, WorkerLimits
from appliance.errors import RequestError
from appliance.models.snapshot import InstanceState
from appliance.types import ChatPrompt, Request
from tests.api.conftest import Api, ApiFactory, heard, sse
from tests.fakes.gate import Gate
from tests.sessions import owning_session
from tests.waiting import until


def outstanding(api: Api) -> int:
    return api.router.snapshots()["demo"].outstanding


async def ready(api: Api) -> None:
    await until(lambda: api.router.snapshots()["demo"].state is InstanceState.READY)


FAST = RequestLimits(commit_stream_seconds=0.2, commit_blocking_seconds=0.2, ping_seconds=0.05)


async def test_a_late_stream_is_committed_and_pinged(start_api: ApiFactory, gate: Gate) -> None:
    api = await start_api(limits=FAST)
    answer = await api.chat(f"{gate.word} say:late", stream=True)
    assert answer.status == 200
    begun = await heard(answer, b": ping\n\n", 3)
    gate.open()
    assert sse(begun.decode() + await answer.text())[-1] == "[DONE]"
    assert api.records[-1].outcome == "ok"


async def test_a_late_blocking_answer_is_led_by_white_space(start_api: ApiFactory, gate: Gate) -> None:
    api = await start_api(limits=FAST)
    answer = await api.chat(f"{gate.word} say:late")
    assert not (await heard(answer, b" ", 3)).strip()
    gate.open()
    assert (await answer.json())["choices"][0]["message"]["content"] == "late"


async def test_a_blocking_client_hears_something_while_text_flows(start_api: ApiFactory) -> None:
    api = await start_api(limits=FAST)
    answer = await api.chat("say:x sleep:0.03 " * 40)
    raw = await answer.read()
    assert raw.startswith(b"  ")
    assert (await answer.json())["choices"][0]["message"]["content"] == "x" * 40


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_past_its_time_ends_with_length(start_api: ApiFactory, stream: bool) -> None:
    api = await start_api(limits=RequestLimits(ping_seconds=0.1))
    answer = await api.chat("started say:part sleep:0.3 late", stream=stream)
    if stream:
        choices: list[Any] = [c["choices"][0] for c in sse(await answer.text())[:-1]]  # type: ignore[index]
        assert choices[-1]["finish_reason"] == "length"
    else:
        body = await answer.json()
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["prompt_tokens"] == 7
    await until(lambda: outstanding(api) == 0)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_aborted(api: Api, stream: bool, n: int) -> None:
    await ready(api)
    script = "started say:x hang" if stream else "hang"
    post = asyncio.get_running_loop().create_task(api.chat(script, n=n, stream=stream))
    await until(lambda: outstanding(api) == n)
    if stream:
        (await post).close()
    else:
        post.cancel()
    await until(lambda: outstanding(api) == 0)
    await until(lambda: len(api.records) == 1)
    assert api.records[0].outcome == "client_gone"


async def test_a_client_that_leaves_the_queue_of_a_loading_model_is_forgotten(
    start_api: ApiFactory, gate: Gate
) -> None:
    api = await start_api(load=gate.word)
    post = asyncio.get_running_loop().create_task(api.chat("say:x"))
    await until(lambda: outstanding(api) == 1)
    post.cancel()
    await until(lambda: outstanding(api) == 0)


async def test_crash_mid_stream_is_a_clean_error_and_the_next_request_works(api: Api) -> None:
    blocks = sse(await (await api.chat("started say:half crash", stream=True)).text())
    assert blocks[-1]["error"]["code"] == "engine_crash"  # type: ignore[index]
    assert (await api.chat("say:again")).status == 200


async def test_a_poison_request_fails_alone_after_one_retry(api: Api, gate: Gate) -> None:
    """Innocents that had no token out are tried again; queued ones go on; the poison fails at its second crash."""
    await ready(api)
    loop = asyncio.get_running_loop()
    innocent = [loop.create_task(api.chat(f"started {gate.word} say:fine")) for _ in range(3)]
    await until(lambda: outstanding(api) == 3)
    poisoning = loop.create_task(api.chat("started crash"))
    await until(lambda: api.router.snapshots()["demo"].restarts)
    gate.open()
    poison = await poisoning
    assert (poison.status, (await poison.json())["error"]["code"]) == (503, "engine_crash")
    answers = await asyncio.gather(*innocent)
    assert [answer.status for answer in answers] == [200] * 3
    assert sorted(record.attempts for record in api.records) == [2, 2, 2, 2]
    assert api.router.snapshots()["demo"].restarts == 2


async def test_a_killed_worker_comes_back(api: Api) -> None:
    await ready(api)
    pid = api.router.snapshots()["demo"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: api.router.snapshots()["demo"].pid not in (pid, None))
    assert (await api.chat("say:x")).status == 200


async def test_a_silent_worker_with_work_is_ended(start_api: ApiFactory) -> None:
    api = await start_api(worker=WorkerLimits(silence_seconds_max=1))
    blocks = sse(await (await api.chat("started say:x freeze hang", stream=True)).text())
    assert blocks[-1]["error"]["code"] == "engine_crash"  # type: ignore[index]


async def test_a_worker_at_rest_is_left_alone(start_api: ApiFactory) -> None:
    api = await start_api(worker=WorkerLimits(silence_seconds_max=0.3))
    await ready(api)
    await asyncio.sleep(1)
    assert api.router.snapshots()["demo"].restarts == 0


@pytest.mark.parametrize("load", ["fail", "crash"])
async def test_a_model_that_cannot_load_is_503_with_the_reason(start_api: ApiFactory, load: str) -> None:
    api = await start_api(load=load, preload=False)
    answer = await api.chat("say:x")
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (503, "model_unavailable")
    assert ("told to fail" if load == "fail" else "exit status 4") in error["message"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await api.session.get("/v1/models")).status == 200


async def test_readiness_follows_the_preloaded_models(start_api: ApiFactory, gate: Gate) -> None:
    api = await start_api(load=gate.word)
    early = await api.session.get("/readyz")
    assert (early.status, await early.json()) == (503, {"status": "starting"})
    gate.open()
    await ready(api)
    assert (await api.session.get("/readyz")).status == 200
    failing = await start_api(load="fail")
    await until(lambda: failing.router.snapshots()["demo"].state is InstanceState.FAILED)
    assert await (await failing.session.get("/readyz")).json() == {"status": "failed"}
    assert (await failing.session.get("/livez")).status == 200


async def test_bounds_per_principal_and_per_model(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(outstanding_per_principal_max=2, queue_depth_max=3))
    await ready(api)
    held = [asyncio.get_running_loop().create_task(api.chat("hang")) for _ in range(2)]
    await until(lambda: outstanding(api) == 2)
    refused = await api.chat("say:x")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    async with owning_session(api.url, headers={"Authorization": "Bearer other"}) as session:
        other = replace(api, session=session, records=[])
        held.append(asyncio.get_running_loop().create_task(other.chat("hang")))
        await until(lambda: outstanding(api) == 3)
        full = await other.chat("say:x")
        assert (full.status, (await full.json())["error"]["code"]) == (503, "queue_full")
        for task in held:
            task.cancel()
        await until(lambda: outstanding(api) == 0)
    assert (await api.chat("say:x")).status == 200


async def test_a_client_that_stops_reading_is_dropped(start_api: ApiFactory) -> None:
    """24 MB do not fit into the kernel's buffers; the connection stays open and unread."""
    api = await start_api(limits=RequestLimits(slow_client_seconds=0.3))
    await ready(api)
    host, port = api.url.removeprefix("http://").split(":")
    script = " ".join(["say:" + "x" * 1_000_000] * 24)
    body = b'{"model": "demo", "stream": true, "prompt": "%s hang"}' % script.encode()
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    await until(lambda: api.records)
    assert (api.records[0].outcome, outstanding(api)) == ("client_gone", 0)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_draining_finishes_what_runs_and_refuses_what_comes(api: Api, gate: Gate) -> None:
    await ready(api)
    running = asyncio.get_running_loop().create_task(api.chat(f"started say:a {gate.word} say:b"))
    await until(lambda: outstanding(api) == 1)
    closing = asyncio.get_running_loop().create_task(api.router.close(60))
    # Its first step.
    await asyncio.sleep(0)
    late = await api.chat("say:x")
    assert (late.status, (await late.json())["error"]["code"]) == (503, "shutting_down")
    gate.open()
    body = await (await running).json()
    assert body["choices"][0]["message"]["content"] == "ab"
    await closing


async def test_a_worker_that_dies_while_draining_ends_the_wait(api: Api, gate: Gate) -> None:
    await ready(api)
    running = asyncio.get_running_loop().create_task(api.chat(f"started {gate.word} crash"))
    await until(lambda: outstanding(api) == 1)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(api.router.close(600))
        # Its first step.
        await asyncio.sleep(0)
        gate.open()
    answer = await running
    assert (answer.status, (await answer.json())["error"]["code"]) == (503, "shutting_down")


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [10**22]},
        {"prompt": [-1]},
        {"prompt": [2**31]},
    ],
    ids=str,
)
async def test_numbers_that_do_not_fit_are_refused_and_harm_nobody(api: Api, fields: dict[str, Any]) -> None:
    await ready(api)
    answer = await api.session.post("/v1/completions", json={"model": "demo"} | fields)
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "prompt[0]")
    for name, value in (("tools", [{"x": 10**22}]), ("chat_template_kwargs", {"x": [10**22]})):
        answer = await api.chat("say:x", **{name: value})
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, name)
    assert outstanding(api) == 0
    assert (await api.chat("say:x")).status == 200


async def test_a_request_that_cannot_travel_is_refused_before_it_counts(api: Api) -> None:
    """Should the edge let one through, it must not reach the backlog: the supervisor would trip over it."""
    await ready(api)
    kwargs = {"x": 10**22}
    request = Request(
        id="r", model="demo", principal="p", cache_domain="p", prompt=ChatPrompt(messages=(), template_kwargs=kwargs)
    )
    with pytest.raises(RequestError, match="cannot be sent to the engine"), api.router.submit(request):
        pass
    assert outstanding(api) == 0


async def test_an_answer_s_end_does_not_wait_for_a_client_that_stops_reading(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(slow_client_seconds=0.3))
    await ready(api)
    host, port = api.url.removeprefix("http://").split(":")
    body = b'{"model": "demo", "prompt": "%s"}' % " ".join(["say:" + "x" * 1_000_000] * 24).encode()
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    await until(lambda: api.records)
    assert api.records[0].outcome in ("client_gone", "failed")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.slow
async def test_the_deadline_holds_for_an_answer_that_never_pauses(start_api: ApiFactory) -> None:
    api = await start_api(limits=RequestLimits(request_seconds=0.4))
    await ready(api)
    answer = await api.chat("deaf started " + "say:x sleep:0.001 " * 9000, stream=True)
    choices: list[Any] = [c["choices"][0] for c in sse(await answer.text())[:-1]]  # type: ignore[index]
    assert choices[-1]["finish_reason"] == "length"


async def test_what_a_dying_worker_said_last_counts(api: Api, gate: Gate) -> None:
    """Its frames are read although a frame to it can no longer be written."""
    await ready(api)
    crashing = asyncio.get_running_loop().create_task(api.chat("started say:last crash", stream=True))
    await asyncio.sleep(0)
    # None of them has text out when it dies, which would be its end.
    others = [asyncio.get_running_loop().create_task(api.chat(f"{gate.word} say:x")) for _ in range(20)]
    blocks = sse(await (await crashing).text())
    gate.open()
    assert any(block["choices"][0]["delta"].get("content") == "last" for block in blocks[:-1])  # type: ignore[index]
    assert [answer.status for answer in await asyncio.gather(*others)] == [200] * 20


@pytest.mark.parametrize("expect", ["100-continue", "something-else"])
async def test_expectations(api: Api, expect: str) -> None:
    answer = await api.session.post(
        "/v1/completions", json={"model": "demo", "prompt": "say:x"}, headers={"Expect": expect}
    )
    assert answer.status == 200


async def test_a_frozen_worker_is_ended_also_when_nobody_waits_any_more(start_api: ApiFactory) -> None:
    """Clients that give up one after the other must not keep it alive."""
    api = await start_api(worker=WorkerLimits(silence_seconds_max=0.8))
    await ready(api)
    pid = api.router.snapshots()["demo"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    for _ in range(10):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await api.chat("say:x")
    await until(lambda: api.router.snapshots()["demo"].pid not in (pid, None))
    assert (await api.chat("say:x")).status == 200


async def test_malformed_http_and_refused_bodies_do_not_flood_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    for _ in range(20):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        answer = await api.session.post("/v1/completions", data=b"no gzip", headers={"Content-Encoding": "gzip"})
        assert answer.status == 415
    assert len([record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]) <= 2


async def test_who_would_get_no_answer_in_their_time_is_told_at_once(api: Api) -> None:
    """The scripted worker has four slots and says that a request has its own for half a second."""
    await (await api.chat("say:a")).read()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(api.chat("hang", deadline_seconds=30)) for _ in range(20)]
        await until(lambda: outstanding(api) == 20)
        answer = await api.chat("say:b", timeout=1)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "queue_full")
        assert "would begin with this request in about 2 s, and it has 1 s" in error["message"]
        assert answer.headers["Retry-After"] == "3"
        assert (await api.chat("say:b", timeout=10)).status == 200
        for task in waiting:
            task.cancel()
