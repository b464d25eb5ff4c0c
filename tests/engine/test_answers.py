"""Single answers of the recite model, whose text is known in closed form."""

from __future__ import annotations

import pytest

from appliance.types import SamplingParams, TokenPrompt
from tests.engine.client import WorkerClient, chat
from tests.models.recite import recited
from tests.models.vocabulary import BOS, ID, N_VOCAB, word


def test_a_chat_answer(recite: WorkerClient) -> None:
    answer = recite.ask(chat("[003][004]"), max_tokens=40)
    assert answer.text == recited(4, 40)
    assert answer.finished.reason == "length"
    usage = answer.finished.usage
    assert usage.prompt_tokens == 1 + len("user:") + 2
    assert usage.completion_tokens == 40
    timings = answer.finished.timings
    assert timings.prefill_seconds > 0 and timings.decode_seconds > 0 and timings.queue_seconds >= 0


def test_a_token_prompt(recite: WorkerClient) -> None:
    assert recite.ask(TokenPrompt(tokens=(BOS, ID["[007]"])), max_tokens=3).text == recited(7, 3)


def test_the_end_token_ends_the_answer_and_has_no_text(recite: WorkerClient) -> None:
    answer = recite.ask("w")
    assert (answer.text, answer.finished.reason) == ("xyz", "stop")


def test_a_character_of_two_tokens_comes_whole(recite: WorkerClient) -> None:
    answer = recite.ask("Y")
    assert [delta.text for delta in answer.deltas] == ["Z", "é"]
    assert [delta.tokens for delta in answer.deltas] == [1, 2]


def test_half_a_character_at_the_end_is_dropped(recite: WorkerClient) -> None:
    answer = recite.ask("Y", max_tokens=2)
    assert (answer.text, answer.finished.reason) == ("Z", "length")
    assert answer.finished.usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (["13]"], "[011][012][0"),
        (["2][01"], "[011][01"),
        (["nothing", "[013]", "3]"], "[011][012]"),
        (["[014]"], "[011][012][013]"),
    ],
)
def test_stop_strings_over_token_borders(recite: WorkerClient, stop: list[str], text: str) -> None:
    answer = recite.ask(word(10), stop=stop)
    assert (answer.text, answer.finished.reason) == (text, "stop")


def test_what_might_have_been_a_stop_string_is_shown_at_the_end(recite: WorkerClient) -> None:
    answer = recite.ask(word(10), stop=["[012][013][999]"], max_tokens=3)
    assert (answer.text, answer.finished.reason) == (recited(10, 3), "length")


def test_ignore_eos_goes_on_past_the_end(recite: WorkerClient) -> None:
    sampling = SamplingParams(temperature=0, ignore_eos=True)
    answer = recite.ask("y", sampling=sampling, max_tokens=28)
    assert answer.text == "z" + "abcdefghijklmnopqrstuvwxyz" + "a"
    assert answer.finished.reason == "length"


@pytest.mark.slow
def test_max_tokens_beyond_the_context_is_clipped(recite: WorkerClient) -> None:
    answer = recite.ask(TokenPrompt(tokens=(ID["[000]"],) * 8100), max_tokens=100_000)
    assert answer.finished.reason == "length"
    assert answer.finished.usage.completion_tokens == 8192 - 8100


@pytest.mark.slow
def test_without_max_tokens_the_context_is_the_limit(recite: WorkerClient) -> None:
    answer = recite.ask(TokenPrompt(tokens=(ID["[000]"],) * 8191), max_tokens=None)
    assert answer.text == "[001]"


def test_a_prompt_that_fills_the_context_is_refused(recite: WorkerClient) -> None:
    failed = recite.ask(TokenPrompt(tokens=(1,) * 8192)).failed
    assert failed.code == "context_length_exceeded"
    assert failed.details == {"n_prompt_tokens": 8192, "n_ctx": 8192}
    assert failed.param == "prompt"


def test_a_huge_text_is_refused_without_tokenising_it(recite: WorkerClient) -> None:
    failed = recite.ask(chat("a" * 20_000_000)).failed
    assert failed.code == "context_length_exceeded"
    assert failed.param == "messages"
    assert "at least" in failed.message


@pytest.mark.parametrize("token", [-1, N_VOCAB])
def test_a_token_that_does_not_exist_is_refused(recite: WorkerClient, token: int) -> None:
    failed = recite.ask(TokenPrompt(tokens=(1, token))).failed
    assert failed.code == "invalid_request"
    assert "prompt[1]" in failed.message


def test_max_tokens_must_not_be_negative(recite: WorkerClient) -> None:
    failed = recite.ask("a", max_tokens=-1).failed
    assert (failed.code, failed.param) == ("invalid_request", "max_tokens")


def test_an_empty_text_still_begins_with_bos(recite: WorkerClient) -> None:
    assert recite.ask("", max_tokens=3).finished.usage.prompt_tokens == 1


def test_bos_is_not_added_twice(recite: WorkerClient) -> None:
    assert recite.ask("<s>[000]", max_tokens=1).finished.usage.prompt_tokens == 2


def test_an_empty_token_prompt_is_refused(recite: WorkerClient) -> None:
    failed = recite.ask(TokenPrompt(tokens=())).failed
    assert (failed.code, failed.param) == ("invalid_request", "prompt")


def test_the_next_turn_finds_its_prefix(recite: WorkerClient) -> None:
    first = recite.ask(chat("[100][101][102]"), max_tokens=10)
    again = recite.ask(chat("[100][101][102]"), max_tokens=10)
    assert again.text == first.text
    assert again.finished.usage.cached_tokens == again.finished.usage.prompt_tokens - 1


def test_penalties_move_the_answer_away_from_repetition(recite: WorkerClient) -> None:
    prompt = "[000][001][000]"
    assert recite.ask(prompt, max_tokens=1).text == "[001]"
    penalised = SamplingParams(temperature=0, repeat_penalty=10.0, presence_penalty=2.0, frequency_penalty=2.0)
    # The successor keeps 22.6 / 10 - 4 < 0, where every token that was not seen has 0.
    assert recite.ask(prompt, sampling=penalised, max_tokens=1).text != "[001]"
    blind = SamplingParams(
        temperature=0, repeat_penalty=10.0, presence_penalty=2.0, frequency_penalty=2.0, repeat_last_n=1
    )
    assert recite.ask(prompt, sampling=blind, max_tokens=1).text == "[001]"
