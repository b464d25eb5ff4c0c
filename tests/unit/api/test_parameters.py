"""docs/PARAMETERS.md says of every parameter of the official clients what becomes of it, and says the truth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from msgspec import Struct
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params

from appliance.api.anthropic_schema import MessagesFields, MessagesRequest
from appliance.api.openai_schema import ChatCompletionRequest, CompletionRequest, with_sampling
from appliance.api.pooling_schema import EmbeddingRequest

DOCUMENT: Final = (Path(__file__).resolve().parents[3] / "docs" / "PARAMETERS.md").read_text()


def table(heading: str) -> dict[str, str]:
    """Parameter to what becomes of it, of the section that begins with this heading."""
    (section,) = [part for part in DOCUMENT.split("\n## ") if part.startswith(heading)]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a parameter stands there twice"
    return dict(rows)


CREATE: Final = {
    *message_create_params.MessageCreateParamsBase.__annotations__,
    *message_create_params.MessageCreateParamsStreaming.__annotations__,
    *message_create_params.MessageCreateParamsNonStreaming.__annotations__,
}
COUNT: Final = set(message_count_tokens_params.MessageCountTokensParams.__annotations__)


def test_every_parameter_of_anthropics_client_is_there() -> None:
    assert set(table("Anthropic")) == CREATE
    assert COUNT <= CREATE


@pytest.mark.parametrize(("body", "parameters"), [(MessagesRequest, CREATE), (MessagesFields, COUNT)])
def test_what_is_said_to_count_is_read(body: type[MessagesFields], parameters: set[str]) -> None:
    read = set(body.__struct_fields__)
    for name in parameters:
        assert (name in read) == (table("Anthropic")[name] in ("honoured", "partly")), name


OPENAI: Final[dict[str, tuple[type[Struct], set[str]]]] = {
    "OpenAI: `chat.completions": (
        with_sampling(ChatCompletionRequest),
        {*chat_create_params.CompletionCreateParamsBase.__annotations__, "stream"},
    ),
    "OpenAI: `completions": (
        with_sampling(CompletionRequest),
        {*completion_create_params.CompletionCreateParamsBase.__annotations__, "stream"},
    ),
    "OpenAI: `embeddings": (EmbeddingRequest, {*embedding_create_params.EmbeddingCreateParams.__annotations__}),
}


@pytest.mark.parametrize("heading", OPENAI)
def test_every_parameter_of_openais_client_is_there_and_what_counts_is_read(heading: str) -> None:
    body, parameters = OPENAI[heading]
    said, read = table(heading), set(body.__struct_fields__)
    assert set(said) == parameters
    for name in parameters:
        assert (name in read) == (said[name] in ("honoured", "partly")), name
