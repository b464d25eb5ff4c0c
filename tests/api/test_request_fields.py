"""What of a request reaches the worker: sampling, whose turn it is, and how long it may take."""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any

import msgspec
import pytest

from appliance.access_config import PrincipalSettings
from appliance.api.request_fields import keep_seconds
from appliance.config import RequestLimits
from appliance.types import SamplingParams
from tests.api.conftest import Api, ApiFactory
from tests.api.test_failures import outstanding, ready
from tests.waiting import until

# Every field of SamplingParams with a value that is not its default.
SAMPLING: dict[str, Any] = {
    "temperature": 1.5,
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 2.0,
    "top_k": 7,
    "top_p": 0.5,
    "min_p": 0.25,
    "typical_p": 0.75,
    "top_n_sigma": 2.0,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.25,
    "min_keep": 3,
    "repeat_penalty": 1.25,
    "frequency_penalty": -1.0,
    "presence_penalty": 0.5,
    "repeat_last_n": 128,
    "dry_multiplier": 0.75,
    "dry_base": 2.0,
    "dry_allowed_length": 4,
    "dry_penalty_last_n": 256,
    "dry_sequence_breakers": ["\n", "|"],
    "mirostat": 2,
    "mirostat_tau": 4.0,
    "mirostat_eta": 0.5,
    "adaptive_target": 0.5,
    "adaptive_decay": 0.75,
    "logit_bias": {"5": -1.5, "9": 2.0},
    "seed": 42,
    "ignore_eos": True,
}


async def told(api: Api, path: str = "/v1/chat/completions", **fields: object) -> dict[str, Any]:
    """The Add that a request becomes."""
    body = {"model": "demo", "prompt": "tell", "messages": [{"role": "user", "content": "tell"}], **fields}
    answer = await api.session.post(path, json=body)
    assert answer.status == 200, await answer.text()
    choice = (await answer.json())["choices"][0]
    add: dict[str, Any] = msgspec.json.decode(choice["text"] if "text" in choice else choice["message"]["content"])
    return add


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_every_sampling_field_travels(api: Api, path: str) -> None:
    assert set(SAMPLING) == set(SamplingParams.__struct_fields__)
    assert (await told(api, path, **SAMPLING))["sampling"] == SAMPLING


async def test_what_is_not_said_is_the_model_s(api: Api) -> None:
    model = msgspec.json.decode(msgspec.json.encode(SamplingParams(temperature=0)))
    assert (await told(api))["sampling"] == model
    nothing: dict[str, Any] = dict.fromkeys(SAMPLING)
    assert (await told(api, **nothing))["sampling"] == model


async def test_a_bias_of_false_forbids(api: Api) -> None:
    add = await told(api, logit_bias={"5": False, "6": -100, "7": 0.5})
    assert add["sampling"]["logit_bias"] == {"5": -1000.0, "6": -100.0, "7": 0.5}


async def test_flow_is_endpoint_key_and_user(api: Api) -> None:
    assert (await told(api, user="u1"))["flow"] == "/chat/completions:kid0:u1"
    assert (await told(api, "/chat/completions"))["flow"] == "/chat/completions:kid0:"
    assert (await told(api, "/v1/completions", user="u1"))["flow"] == "/completions:kid0:u1"


async def test_a_long_user_is_bounded_and_still_its_own(api: Api) -> None:
    first, second = [(await told(api, user="u" * 100_000 + end))["flow"] for end in "ab"]
    assert first == "/chat/completions:kid0:" + hashlib.sha256(b"u" * 100_000 + b"a").hexdigest()
    assert first != second


async def test_a_principal_without_settings_has_the_defaults(api: Api) -> None:
    add = await told(api)
    assert (add["principal"], add["priority"], add["weight"], add["cache_domain"]) == (
        *("tester", 50, 1.0),
        "principal:tester",
    )


async def test_settings_of_a_principal(start_api: ApiFactory) -> None:
    settings = {"tester": PrincipalSettings(priority=20, weight=3.5, cache_group="tester")}
    add = await told(await start_api(principals=settings))
    assert (add["priority"], add["weight"], add["cache_domain"]) == (20, 3.5, "group:tester")


@pytest.mark.parametrize(("asked", "given"), [(0, 20), (20, 20), (21, 21), (100, 100), (None, 20)])
async def test_a_client_can_only_step_back(start_api: ApiFactory, asked: int | None, given: int) -> None:
    api = await start_api(principals={"tester": PrincipalSettings(priority=20)})
    assert (await told(api, priority=asked))["priority"] == given


@pytest.mark.parametrize(("asked", "given"), [(3.5, 3.5), (1000, 570), (None, 570)])
async def test_the_deadline_travels_and_can_only_be_shortened(api: Api, asked: float | None, given: float) -> None:
    await ready(api)
    seconds = (await told(api, deadline_seconds=asked))["seconds_max"]
    assert max(0, given - 60) < seconds <= given


async def test_the_time_of_a_load_is_not_given_twice(start_api: ApiFactory) -> None:
    """The scripted worker takes a second to load."""
    api = await start_api(load="slow")
    assert (await told(api, deadline_seconds=60))["seconds_max"] < 59.1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_without_an_answer_at_its_deadline_is_504(api: Api, stream: bool) -> None:
    await ready(api)
    answer = await api.chat("started hang", deadline_seconds=0.1, stream=stream)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["message"]) == (504, "deadline_exceeded", "out of time")
    assert answer.headers["Retry-After"] == "10"


@pytest.mark.slow
async def test_an_engine_that_does_not_keep_the_deadline_is_overruled(api: Api) -> None:
    await ready(api)
    began = time.monotonic()
    answer = await api.chat("deaf started hang", deadline_seconds=0.1)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (504, "deadline_exceeded")
    assert "after its 0.1 s" in error["message"]
    assert answer.headers["Retry-After"] == "10"
    assert time.monotonic() - began >= 2
    await until(lambda: outstanding(api) == 0)


@pytest.mark.parametrize(
    ("code", "status", "retry"),
    [
        ("deadline_exceeded", 504, "10"),
        ("kv_cache_full", 503, "2"),
        ("queue_full", 503, "2"),
        ("template_error", 400, None),
    ],
)
async def test_the_engine_s_refusals_say_when_to_try_again(api: Api, code: str, status: int, retry: str | None) -> None:
    answer = await api.chat(f"fail:{code}")
    assert (answer.status, answer.headers.get("Retry-After")) == (status, retry)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["started say:x hang", "deaf started say:x hang"])
async def test_several_choices_past_their_time_all_end_with_length(start_api: ApiFactory, script: str) -> None:
    """Whether the engine keeps the time or the daemon."""
    api = await start_api(limits=RequestLimits(request_seconds=1.5))
    await ready(api)
    body = await (await api.chat(script, n=3)).json()
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length"] * 3
    assert body["usage"]["completion_tokens"] == 3
    assert api.records[-1].finish_reason == "length"


async def test_a_model_that_has_worked_shows_its_steps(api: Api) -> None:
    await ready(api)
    (before,) = (await (await api.session.get("/v1/models")).json())["data"]
    assert (before["meta"]["step_ms"], before["meta"]["host_share"], before["meta"]["preemptions"]) == (None, None, 0)
    await (await api.chat("say:x")).read()
    (after,) = (await (await api.session.get("/v1/models")).json())["data"]
    assert (after["meta"]["step_ms"], after["meta"]["host_share"], after["meta"]["preemptions"]) == (5.0, 0.25, 2)


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [
        (0, 0),
        (300, 300),
        (2.5, 2.5),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("+90s", 90),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1m", math.inf),
    ],
)
def test_how_long_a_model_stays(keep_alive: float | str, seconds: float) -> None:
    assert keep_seconds(keep_alive) == seconds


@pytest.mark.parametrize("keep_alive", ["", "-", "soon", "5 m", "m", "1m1h", "1d", "٥m", [5]])
async def test_what_is_no_time_to_stay(api: Api, keep_alive: object) -> None:
    answer = await api.completion("say:x", keep_alive=keep_alive)
    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == "keep_alive"


async def test_a_drained_service_is_not_ready(api: Api) -> None:
    await ready(api)
    await api.router.drain(1)
    answer = await api.session.get("/readyz")
    assert (answer.status, answer.headers["Retry-After"], await answer.json()) == (503, "30", {"status": "draining"})
    assert (await api.completion("say:x")).status == 503
    api.router.resume()
    assert (await api.session.get("/readyz")).status == 200


async def test_a_preloaded_model_that_was_unloaded_is_loaded_by_the_next_request(api: Api) -> None:
    await ready(api)
    instance = api.router.registry.instance("gpt-x")
    assert instance is not None
    await instance.unload(1)
    assert (await api.session.get("/readyz")).status == 200
    assert (await api.completion("say:x")).status == 200
