"""The official client's Responses against the real daemon and the demo model."""

from __future__ import annotations

import openai
import pytest

from tests.e2e.appliance_process import Appliance, run_command
from tests.e2e.test_demo import ANSWER_BEGINS, QUESTION, openai_client

pytestmark = pytest.mark.slow


def test_a_response_is_kept_streamed_and_gone_on_from(demo: Appliance) -> None:
    with openai_client(demo) as api:
        whole = api.responses.create(model="demo", input=QUESTION, temperature=0, store=True)
        assert whole.output_text.startswith(ANSWER_BEGINS)
        assert whole.status == "completed"
        with api.responses.stream(model="demo", input=QUESTION, temperature=0) as stream:
            assert stream.get_final_response().output_text == whole.output_text
        assert api.responses.retrieve(whole.id) == whole
        assert len(api.responses.input_items.list(whole.id).data) == 1
        following = api.responses.create(model="demo", input="Thanks.", previous_response_id=whole.id, temperature=0)
        assert following.usage is not None
        assert whole.usage is not None
        counted = api.responses.input_tokens.count(model="demo", input="Thanks.", previous_response_id=whole.id)
        assert counted.input_tokens == following.usage.input_tokens
        assert following.usage.input_tokens > whole.usage.input_tokens + whole.usage.output_tokens
        api.responses.delete(whole.id)
        with pytest.raises(openai.NotFoundError):
            api.responses.retrieve(whole.id)
        with pytest.raises(openai.BadRequestError) as too_long:
            api.responses.create(model="demo", input="word " * 5000)
        assert too_long.value.code == "context_length_exceeded"


@pytest.mark.slow
async def test_the_async_client(demo: Appliance) -> None:
    http = openai.DefaultAsyncHttpxClient(verify=demo.context(), timeout=100)
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key=demo.key(), http_client=http) as api:
        whole = await api.responses.create(model="demo", input=QUESTION, temperature=0, max_output_tokens=3)
        assert whole.status == "incomplete"
        events = [
            event
            async for event in await api.responses.create(
                model="demo", input=QUESTION, temperature=0, max_output_tokens=3, stream=True, store=True
            )
        ]
        last = events[-1]
        assert last.type == "response.incomplete"
        assert last.response.output_text == whole.output_text
        assert (await api.responses.retrieve(last.response.id)).output_text == whole.output_text
        with pytest.raises(openai.BadRequestError, match="background"):
            await api.responses.cancel(last.response.id)


@pytest.mark.slow
def test_a_response_outlives_a_rotation_and_is_no_plain_text(demo: Appliance) -> None:
    with openai_client(demo) as api:
        made = api.responses.create(model="demo", input=QUESTION, store=True)
        assert run_command("secrets", "rotate-data-key", "responses", "--state-dir", demo.state).returncode == 0
        assert api.responses.retrieve(made.id).output_text == made.output_text
    files = list((demo.state / "store" / "responses").rglob("*.sealed"))
    assert files
    assert not any(QUESTION.encode() in path.read_bytes() for path in files)
