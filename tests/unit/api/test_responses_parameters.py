"""docs/PARAMETERS.md says of every parameter of `client.responses.create` what becomes of it, and it is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from openai.resources.responses import Responses
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from appliance.api.openai_schema import ChatCompletionRequest, with_sampling
from appliance.api.request_fields import Asked
from appliance.api.responses_input import asks
from appliance.api.responses_schema import Response, ResponsesRequest
from appliance.errors import RequestError

_DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "PARAMETERS.md"
_ROW: Final = re.compile(r"^\| `([a-z_]+)` \| (honoured|partly|ignored|refused) \|", re.MULTILINE)
_SENT: Final[dict[str, Any]] = {
    "background": True,
    "conversation": {"id": "conv_1"},
    "moderation": {"model": "m"},
    "prompt": {"id": "p"},
}


def table() -> dict[str, str]:
    section = _DOCUMENT.read_text().split("\n## OpenAI: `responses.create`, `responses.stream`\n")[1].split("\n## ")[0]
    rows = _ROW.findall(section)
    assert [name for name, _ in rows] == sorted(name for name, _ in rows)
    return dict(rows)


def named(verdict: str) -> list[str]:
    return [name for name, said in table().items() if said == verdict]


def test_every_parameter_has_a_row() -> None:
    assert set(table()) == {*ResponseCreateParamsBase.__annotations__, "stream"}


def test_what_is_honoured_is_read() -> None:
    read = {*ResponsesRequest.__struct_fields__, *Asked.__struct_fields__}
    read |= set(with_sampling(ChatCompletionRequest).__struct_fields__)
    assert {*named("honoured"), *named("partly")} <= read


def test_what_is_ignored_is_at_most_repeated() -> None:
    read = set(named("ignored")) & set(ResponsesRequest.__struct_fields__)
    assert read == {"max_tool_calls", "prompt_cache_key"}
    assert read <= set(Response.__struct_fields__)


@pytest.mark.parametrize("name", named("refused"))
def test_what_is_refused(name: str) -> None:
    raw = msgspec.json.encode({"model": "demo", "input": "x", name: _SENT[name]})
    with pytest.raises(RequestError) as refused:
        asks(raw, msgspec.json.decode(raw, type=ResponsesRequest), (), lambda prefix: prefix)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", name)


def test_every_method_has_a_row() -> None:
    section = _DOCUMENT.read_text().split("\n## OpenAI: the methods of `responses`\n")[1].split("\n## ")[0]
    methods = [name for name in vars(Responses) if not name.startswith(("_", "with_"))]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == sorted(methods)


def test_what_is_counted_has_a_row_too() -> None:
    assert set(InputTokenCountParams.__annotations__) - {"personality"} <= table().keys()
