"""Names that travel with a request, and that the reference knows every field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.access_config import PrincipalSettings
from appliance.api.openai_schema import ChatCompletionRequest, CompletionRequest, with_sampling
from appliance.api.request_fields import cache_domain, flow, free_form
from appliance.errors import RequestError

API = (Path(__file__).resolve().parents[3] / "docs" / "API.md").read_text()


@pytest.mark.parametrize("body", [ChatCompletionRequest, CompletionRequest])
def test_the_reference_has_every_field(body: type[ChatCompletionRequest] | type[CompletionRequest]) -> None:
    missing = [name for name in with_sampling(body).__struct_fields__ if f"`{name}`" not in API]
    assert missing in ([], ["stream_options"])


def test_a_group_is_no_principal() -> None:
    alone, grouped = PrincipalSettings(), PrincipalSettings(cache_group="hr")
    assert cache_domain("hr", alone) != cache_domain("hr", grouped) == cache_domain("sales", grouped)


@pytest.mark.parametrize("value", [b'{"a":"\xff"}', b'{"a":"\\ud800"}'])
def test_a_free_field_that_is_no_json_inside_is_refused(value: bytes) -> None:
    with pytest.raises(RequestError, match="tools: no valid JSON"):
        free_form("tools", msgspec.Raw(value), msgspec.json.Decoder(dict[str, Any]))


def test_flows_differ_in_each_part_and_are_bounded() -> None:
    flows = {
        flow(path, key, user)
        for path in ("/v1/completions", "/v1/chat/completions")
        for key in ("k1", "k2")
        for user in ("", "u" * 64, "u" * 65, "é" * 100_000)
    }
    assert len(flows) == 16
    assert flow("/completions", "k", "") == flow("/v1/completions", "k", "")
    assert max(map(len, flows)) < 128
