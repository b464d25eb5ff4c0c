"""From prompts to tokens, with a vocabulary of one token per byte."""

from __future__ import annotations

import pytest

from appliance.engine.prompt import ChatTemplate, PromptReader
from appliance.errors import RequestError
from appliance.types import AS_PROMPT, ChatMessage, ChatPrompt, InfillPrompt, Reading, TextPrompt, TokenPrompt


class ByteVocabulary:
    size = 256
    piece_bytes_max = 1

    def __init__(self) -> None:
        self.asked: list[str] = []

    def tokenize(self, text: str, reading: Reading = AS_PROMPT) -> list[int]:
        self.asked.append(text)
        return list(text.encode())

    infill = (11, 12, 13)

    def written(self, token: int) -> bytes:
        return bytes([token])


CHAT = ChatPrompt(messages=(ChatMessage(role="user", content="hi"),))


def reader(source: str | None = "{{ messages[0].content }}!", n_ctx: int = 8) -> PromptReader:
    template = None if source is None else ChatTemplate(source, bos="", eos="", seconds_max=1)
    return PromptReader(ByteVocabulary(), template, n_ctx)


def test_each_kind_of_prompt() -> None:
    assert reader().read(CHAT).tokens == list(b"hi!")
    assert reader().read(TextPrompt(text="ab")).tokens == list(b"ab")
    assert reader().read(TokenPrompt(tokens=(1, 2))).tokens == [1, 2]


def test_a_prompt_that_is_looked_at_says_all_that_it_is() -> None:
    for prompt, text in ((CHAT, "hi!"), (TextPrompt(text="ab"), "ab"), (TokenPrompt(tokens=tuple(b"xy")), "xy")):
        read = reader().look(5, prompt, Reading())
        assert (read.number, read.text, read.tokens) == (5, text, tuple(text.encode()))
        assert b"".join(read.pieces).decode() == text
    assert len(reader().look(5, TextPrompt(text="a" * 20), Reading()).tokens) == 20, "it need not fit"


def test_what_is_between_two_texts_is_asked_for_by_the_model_s_own_tokens() -> None:
    assert reader().read(InfillPrompt(prefix="a", suffix="b")).tokens == [11, ord("a"), 13, ord("b"), 12]
    vocabulary = ByteVocabulary()
    vocabulary.infill = (-1, -1, -1)
    with pytest.raises(RequestError, match="no tokens to fill in") as caught:
        PromptReader(vocabulary, None, 8).read(InfillPrompt(prefix="a", suffix="b"))
    assert caught.value.param == "suffix"


def test_a_model_without_a_template_has_completions_only() -> None:
    with pytest.raises(RequestError, match="/v1/completions") as caught:
        reader(None).read(CHAT)
    assert caught.value.code == "template_error"
    assert reader(None).read(TextPrompt(text="ab")).tokens == list(b"ab")


def test_the_context_leaves_room_for_one_token() -> None:
    assert len(reader().read(TextPrompt(text="a" * 7)).tokens) == 7
    with pytest.raises(RequestError) as caught:
        reader().read(TokenPrompt(tokens=(1,) * 8))
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.details == {"n_prompt_tokens": 8, "n_ctx": 8}


def test_a_text_that_cannot_fit_is_not_tokenised() -> None:
    vocabulary = ByteVocabulary()
    with pytest.raises(RequestError, match="at least 300000 tokens"):
        PromptReader(vocabulary, None, 8).read(TextPrompt(text="a" * 300_000))
    assert vocabulary.asked == []


@pytest.mark.parametrize("prompt", [TextPrompt(text=""), TokenPrompt(tokens=())])
def test_an_empty_prompt_is_refused(prompt: TextPrompt | TokenPrompt) -> None:
    with pytest.raises(RequestError, match="empty"):
        reader().read(prompt)


def test_tokens_that_do_not_exist_are_refused() -> None:
    with pytest.raises(RequestError, match=r"prompt\[1\] is 256"):
        reader().read(TokenPrompt(tokens=(1, 256)))


def test_a_conversation_may_be_shortened_until_there_is_room() -> None:
    source = "{% for message in messages %}{{ message.content }}{% endfor %}"
    turns = tuple(ChatMessage(role="user", content=letter * 10) for letter in "abcdefghij")
    made = reader(source, n_ctx=64)
    with pytest.raises(RequestError):
        made.read(ChatPrompt(messages=turns))
    assert bytes(made.read(ChatPrompt(messages=turns, answer_room=10)).tokens) == b"".join(
        letter * 10 for letter in (b"g", b"h", b"i", b"j")
    )
    assert len(made.read(ChatPrompt(messages=turns, answer_room=1000)).tokens) == 20, "half of the context at most"
    assert len(made.read(ChatPrompt(messages=turns[:3], answer_room=10)).tokens) == 30


def test_what_is_too_long_by_itself_is_refused_all_the_same() -> None:
    source = "{% for message in messages %}{{ message.content }}{% endfor %}"
    made = reader(source, n_ctx=64)
    for content, tokens in (("x" * 70, 70), ("x" * 300_000, 300_000)):
        turns = (ChatMessage(role="user", content="y" * 300_000), ChatMessage(role="user", content=content))
        with pytest.raises(RequestError) as caught:
            made.read(ChatPrompt(messages=turns, answer_room=8))
        assert caught.value.details["n_prompt_tokens"] == tokens
    last = (ChatMessage(role="user", content="y" * 90), ChatMessage(role="user", content="x" * 60))
    assert len(made.read(ChatPrompt(messages=last, answer_room=8)).tokens) == 60, "it fits, if with less room"
