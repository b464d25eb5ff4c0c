"""Capturing, from the request that comes in to what an auditor reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.access_config import Capture
from appliance.capture.prompt_capture import PromptCapture
from appliance.capture.reading import Captured
from tests.api.conftest import ApiFactory
from tests.unit.capture.making import ON, Site
from tests.waiting import until

TESTER = Capture(enabled=True, principals=("tester",))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def captured(site: Site, request_id: str) -> list[Captured]:
    """What there is of a request, once its end has come to the disk."""
    await until(lambda: site.find(request_id).records)
    return site.find(request_id).records


def capturing(site: Site, settings: Capture) -> PromptCapture:
    capture = site.capture()
    capture.configure(settings)
    return capture


@pytest.mark.parametrize("stream", [True, False])
async def test_prompt_and_answer(start_api: ApiFactory, site: Site, stream: bool) -> None:
    capture = capturing(site, TESTER)
    api = await start_api(capture=capture)
    answer = await api.chat("started say:Hel say:lo", stream=stream, max_tokens=9)
    await answer.read()
    (found,) = await captured(site, answer.headers["X-Request-Id"])
    assert (found.head.principal, found.head.model, found.head.endpoint) == ("tester", "demo", "/v1/chat/completions")
    assert (found.head.outcome, found.head.finish_reason) == ("ok", "stop")
    assert found.content.prompt == '[{"role": "user", "content": "started say:Hel say:lo"}]'
    assert [(choice.text, choice.reason) for choice in found.content.choices] == [("Hello", "stop")]
    capture.close()
    stored = b"".join(path.read_bytes() for path in site.folder.iterdir())
    assert stored
    for word in (b"say:Hel", b"Hello", b"tester"):
        assert word not in stored


async def test_a_response_with_all_that_it_was_told(start_api: ApiFactory, site: Site) -> None:
    capture = capturing(site, TESTER)
    api = await start_api(capture=capture)
    body = {"model": "demo", "instructions": "Be kind.", "input": "started say:x", "prompt": None}
    answer = await api.session.post("/v1/responses", json=body)
    (found,) = await captured(site, answer.headers["X-Request-Id"])
    assert json.loads(found.content.prompt) == body
    assert [choice.text for choice in found.content.choices] == ["x"]
    capture.close()


async def test_a_completion_of_several_choices(start_api: ApiFactory, site: Site) -> None:
    capture = capturing(site, ON)
    api = await start_api(capture=capture)
    answer = await api.completion("started 7?say:seven 8?say:eight", n=2, seed=7)
    (found,) = await captured(site, answer.headers["X-Request-Id"])
    assert found.content.prompt == '"started 7?say:seven 8?say:eight"'
    assert [choice.text for choice in found.content.choices] == ["seven", "eight"]
    capture.close()


async def test_others_are_left_alone(start_api: ApiFactory, site: Site) -> None:
    capture = capturing(site, TESTER)
    api = await start_api(capture=capture)
    body = {"model": "demo", "messages": [{"role": "user", "content": "started say:x"}]}
    answer = await api.session.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer other"})
    assert answer.status == 200
    capture.close()
    assert site.ids() == []


async def test_failed_and_left_answers_are_captured_as_far_as_they_went(start_api: ApiFactory, site: Site) -> None:
    capture = capturing(site, ON)
    api = await start_api(capture=capture)
    failed = await api.chat("started say:begun sleep:0.05 fail:engine_crash", stream=True)
    await failed.read()
    (found,) = await captured(site, failed.headers["X-Request-Id"])
    assert (found.head.outcome, found.head.error_code) == ("failed", "engine_crash")
    assert [(choice.text, choice.reason) for choice in found.content.choices] == [("begun", None)]
    left = await api.chat("started say:begun hang", stream=True)
    await left.content.readuntil(b"begun")
    left.close()
    (found,) = await captured(site, left.headers["X-Request-Id"])
    assert (found.head.outcome, found.content.choices[0].text) == ("client_gone", "begun")
    capture.close()


async def test_a_refused_request_is_no_prompt(start_api: ApiFactory, site: Site) -> None:
    capture = capturing(site, ON)
    api = await start_api(capture=capture)
    assert (await api.chat("x", temperature=-1)).status == 400
    capture.close()
    assert site.ids() == []


async def test_a_capture_that_fails_costs_no_answer(start_api: ApiFactory, site: Site) -> None:
    site.folder.write_text("in the way")
    capture = capturing(site, ON)
    api = await start_api(capture=capture)
    answer = await api.chat("started say:Hello")
    assert (await answer.json())["choices"][0]["message"]["content"] == "Hello"
    await until(lambda: len(capture.notes()) > 1)
    assert capture.notes()[1].startswith("requests that were not captured: 1 ([Errno 17] File exists")
    capture.close()


@pytest.mark.parametrize("request_id", ["..", ".", "-x", "_y"])
async def test_an_id_that_could_not_be_asked_for_is_replaced(start_api: ApiFactory, request_id: str) -> None:
    """`..` in a path means something else."""
    api = await start_api()
    answer = await api.session.get("/v1/models", headers={"X-Request-Id": request_id})
    assert answer.headers["X-Request-Id"] != request_id
