"""Aliases over versions, and what steps in where one of them cannot answer."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from appliance.access_config import PrincipalSettings
from appliance.alias_spec import AliasSpec, FallbackSpec
from appliance.config import RequestLimits
from appliance.telemetry.request_record import RequestRecord
from appliance.types import ModelSpec, SamplingParams
from tests.api.conftest import Api, ApiFactory, sse
from tests.fakes.gate import Gate
from tests.waiting import until

FALLBACK = "X-Appliance-Fallback"
# What a script of one model alone does: the scripted workers tell themselves apart by nothing, but by their seeds.
OLD, NEW, SMALL = (
    ModelSpec(id=name, path="/nowhere.gguf", sampling=SamplingParams(temperature=0, seed=seed))
    for name, seed in (("old", 1), ("new", 2), ("small", 3))
)


def alias(weights: Mapping[str, float] | None = None, **fallback: object) -> dict[str, AliasSpec]:
    spec = FallbackSpec(**fallback)  # type: ignore[arg-type]
    return {"chat": AliasSpec(versions=dict(weights or {"new": 1}), fallback=spec)}


async def started(start_api: ApiFactory, aliases: dict[str, AliasSpec], **options: object) -> Api:
    options.setdefault("limits", RequestLimits(commit_stream_seconds=60))
    return await start_api(specs=[OLD, NEW, SMALL], aliases=aliases, **options)


async def asked(api: Api, script: str, **fields: object) -> tuple[aiohttp.ClientResponse, dict[str, object]]:
    answer = await api.chat(script, model="chat", **fields)
    return answer, await answer.json()


async def recorded(api: Api, count: int = 1) -> RequestRecord:
    """The record of the last of `count` requests: it is filed just after its answer has ended."""
    await until(lambda: len(api.records) >= count)
    return api.records[count - 1]


def text_of(body: dict[str, object]) -> object:
    return body["choices"][0]["message"]["content"]  # type: ignore[index]


async def test_an_alias_is_answered_by_its_version_which_says_its_name(start_api: ApiFactory) -> None:
    api = await started(start_api, alias())
    answer, body = await asked(api, "say:hello")
    assert (answer.status, text_of(body), body["model"]) == (200, "hello", "new")
    assert FALLBACK not in answer.headers
    record = await recorded(api)
    assert (record.alias, record.model, record.fallback, record.failed_models) == ("chat", "new", None, ())


async def test_another_model_steps_in_for_one_that_fails_before_its_first_text(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",)))
    for failure in ("crash", "fail:internal_error", "fail:kv_cache_full"):
        answer, body = await asked(api, f"2?{failure} say:saved")
        assert (answer.status, text_of(body), body["model"]) == (200, "saved", "small")
        assert answer.headers[FALLBACK] == "model"
    record = await recorded(api, 3)
    assert (record.outcome, record.model, record.fallback, record.failed_models) == ("ok", "small", "model", ("new",))


async def test_so_does_another_version_and_in_a_stream(start_api: ApiFactory) -> None:
    api = await started(start_api, alias({"new": 1, "old": 1e-9}))
    answer = await api.chat("2?crash say:saved", model="chat", stream=True)
    chunks = sse(await answer.text())
    assert chunks[-1] == "[DONE]" and answer.headers[FALLBACK] == "model"
    assert {chunk["model"] for chunk in chunks[:-1] if isinstance(chunk, dict)} == {"old"}


async def test_after_the_commit_the_body_and_the_record_alone_tell(start_api: ApiFactory, gate: Gate) -> None:
    limits = RequestLimits(commit_stream_seconds=0.05)
    api = await started(start_api, alias(models=("small",)), limits=limits)
    answer = await api.chat(f"{gate.word} 2?crash say:saved", model="chat", stream=True)
    gate.open()
    chunks = sse(await answer.text())
    assert FALLBACK not in answer.headers
    assert {chunk["model"] for chunk in chunks[:-1] if isinstance(chunk, dict)} == {"small"}
    assert (await recorded(api)).fallback == "model"


async def test_nobody_takes_over_an_answer_that_has_begun(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",), answer="no"))
    answer = await api.chat("say:half sleep:0.1 2?crash say:whole", model="chat", stream=True)
    *_, last = sse(await answer.text())
    assert isinstance(last, dict) and last["error"]["code"] == "engine_crash"  # type: ignore[index]
    record = await recorded(api)
    assert (record.outcome, record.failed_models) == ("failed", ())


async def test_what_is_wrong_with_a_request_is_wrong_for_every_model(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",), answer="no"))
    answer, _ = await asked(api, "2?fail:context_length_exceeded say:no")
    assert answer.status == 400
    answer, _ = await asked(api, "say:x", temperature=9)
    assert answer.status == 400 and FALLBACK not in answer.headers


async def test_what_steps_in_may_refuse_what_the_model_would_not(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",)))
    answer, body = await asked(api, "2?fail:internal_error 3?fail:context_length_exceeded")
    assert (answer.status, body["error"]["code"]) == (500, "internal_error")  # type: ignore[index]
    api = await started(start_api, alias(models=("small", "old")))
    answer, body = await asked(api, "2?fail:internal_error 3?fail:context_length_exceeded say:saved")
    assert (answer.status, body["model"], text_of(body)) == (200, "old", "saved")


async def test_the_operator_s_answer_is_the_last_resort(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",), answer="Please wait."))
    answer, body = await asked(api, "crash", n=2)
    assert (answer.status, text_of(body), body["model"], answer.headers[FALLBACK]) == (
        200,
        "Please wait.",
        "chat",
        "answer",
    )
    assert len(body["choices"]) == 2  # type: ignore[arg-type]
    answer = await api.completion("crash", model="chat", stream=True, stream_options={"include_usage": True})
    *chunks, done = sse(await answer.text())
    assert done == "[DONE]" and answer.headers[FALLBACK] == "answer"
    texts = [choice["text"] for chunk in chunks for choice in chunk["choices"]]  # type: ignore
    assert "".join(texts) == "Please wait."
    record = await recorded(api, 2)
    assert (record.outcome, record.model, record.fallback) == ("ok", None, "answer")
    assert record.failed_models == ("new", "small") and record.completion_tokens == 0


async def test_without_anybody_left_the_first_failure_is_the_answer(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",)))
    answer, body = await asked(api, "2?fail:kv_cache_full 3?fail:internal_error")
    assert (answer.status, body["error"]["code"]) == (503, "kv_cache_full")  # type: ignore[index]
    record = await recorded(api)
    assert (record.model, record.failed_models, record.fallback) == ("new", ("small",), None)
    assert FALLBACK not in answer.headers


async def test_the_record_of_a_failure_is_about_the_first_model_alone(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",)))
    await asked(api, "2?fail:kv_cache_full 3?started 3?fail:internal_error")
    record = await recorded(api)
    assert (record.model, record.prompt_tokens) == ("new", 0)


async def test_an_exact_repeat_is_answered_from_memory_while_the_model_fails(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(repeats_mib=1, answer="no"))
    answer, first = await asked(api, "say:known")
    for _ in range(5):
        api.router.failed("new", "deadline_exceeded", 0)
    answer, body = await asked(api, "say:known", user="somebody else")
    assert (text_of(body), body["model"], body["usage"]) == ("known", "new", first["usage"])
    assert answer.headers[FALLBACK] == "repeat" and (await recorded(api, 2)).fallback == "repeat"
    for script, fields in (("say:other", {}), ("say:known", {"seed": 5})):
        answer, _ = await asked(api, script, **fields)
        assert answer.headers[FALLBACK] == "answer"
    answer = await api.session.post(
        "/v1/chat/completions",
        json={"model": "chat", "messages": [{"role": "user", "content": "say:known"}]},
        headers={"Authorization": "Bearer other"},
    )
    assert answer.headers[FALLBACK] == "answer", "nobody gets what another one was told"


async def test_what_is_drawn_is_not_kept(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(repeats_mib=1, answer="no"))
    await asked(api, "say:drawn", temperature=1)
    for _ in range(5):
        api.router.failed("new", "deadline_exceeded", 0)
    answer, _ = await asked(api, "say:drawn", temperature=1)
    assert answer.headers[FALLBACK] == "answer"


async def test_a_model_that_keeps_failing_gets_no_requests_until_a_probe_answers(start_api: ApiFactory) -> None:
    limits = RequestLimits(breaker_failures=2, breaker_seconds=1.5)
    api = await started(start_api, alias(models=("small",)), limits=limits)
    for _ in range(2):
        await asked(api, "2?fail:internal_error say:x")
    assert api.router.failing() == ["new"]
    answer, body = await asked(api, "say:x")
    assert body["model"] == "small"
    answer = await api.chat("say:x", model="new")
    assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
    assert "keeps failing" in api.router.troubles()[0]
    await until(lambda: not api.router.failing())
    answer, body = await asked(api, "say:x")
    assert body["model"] == "new"


async def test_a_deadline_runs_over_all_attempts(start_api: ApiFactory) -> None:
    api = await started(start_api, alias(models=("small",), answer="late"))
    answer, body = await asked(api, "deaf hang", deadline_seconds=0.2)
    assert (answer.headers[FALLBACK], text_of(body)) == ("answer", "late")
    assert (await recorded(api)).failed_models == ("new",)
    assert not api.router.failing(), "a client's own hurry says nothing of the model"


async def test_aliases_are_listed_and_allowed_like_models(start_api: ApiFactory) -> None:
    principals = {"tester": PrincipalSettings(models=("chat",))}
    api = await started(start_api, alias(models=("small",)), principals=principals)
    listed = await (await api.session.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["chat"]
    one = await (await api.session.get("/v1/models/chat")).json()
    assert one["id"] == "chat"
    assert (await asked(api, "say:x"))[0].status == 200
    answer = await api.chat("say:x", model="new")
    assert answer.status == 404 and "known models: chat" in (await answer.json())["error"]["message"]


async def test_copies_go_to_a_version_on_trial_and_nobody_hears_of_it(start_api: ApiFactory) -> None:
    api = await started(start_api, alias({"old": 1}))
    api.router.registry.routes.set_mirror("chat", "new")
    for script in ("say:hello", "say:hello 2?fail:internal_error"):
        answer, body = await asked(api, script)
        assert (answer.status, body["model"], text_of(body)) == (200, "old", "hello")
    await recorded(api, 4)
    copies = [record for record in api.records if record.mirrored]
    assert sorted(copy.outcome for copy in copies) == ["failed", "ok"]
    assert {(copy.model, copy.principal) for copy in copies} == {("new", "tester")}
    assert all(record.outcome == "ok" and record.model == "old" for record in api.records if not record.mirrored)
