"""The released demo model: the file, what it answers, and what its document says about it.

Every documented question is asked again, greedily, so another file in its place fails here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from appliance.demo import DEMO_MODEL_PATH
from appliance.demo.training.data import OFF_TOPIC, Corpus
from appliance.demo.training.golden import (
    DOCUMENT_PATH,
    MIN_GAP,
    QUESTIONS_MIN,
    Golden,
    read_golden,
    split_document,
    tables,
)
from appliance.demo.training.greedy import GreedyChat
from appliance.demo.training.phrasing import LANGS, Lang
from appliance.demo.training.tools import TOOLS, Result

FILE_BYTES_MAX = 8 * 1024 * 1024
# Below MIN_GAP, so that another processor's rounding does not fail the test, but far above rounding.
MEASURED_GAP_MIN = 0.5
OFF_TOPIC_MIN = 5
TOOL_QUESTIONS: list[tuple[Lang, str, str]] = [
    ("en", "How much GPU memory is free?", "get_gpu_memory"),
    ("en", "What time is it?", "get_time"),
    ("en", "Check the request queue.", "get_queue"),
    ("zh", "现在还有多少显存？", "get_gpu_memory"),
    ("zh", "现在几点？", "get_time"),
    ("zh", "查一下请求队列", "get_queue"),
]
TOOL_RESULTS: dict[str, Result] = {
    "get_gpu_memory": {"total_gb": 24, "used_gb": 7, "free_gb": 17},
    "get_time": {"time": "14:35"},
    "get_queue": {"running": 12, "waiting": 3},
}


@pytest.fixture(scope="module")
def chat() -> Iterator[GreedyChat]:
    model = GreedyChat(DEMO_MODEL_PATH)
    yield model
    model.close()


@pytest.fixture(scope="module")
def golden() -> list[Golden]:
    return read_golden()


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(train_on_everything=True)


def assert_answers(chat: GreedyChat, rows: list[Golden]) -> None:
    wrong: list[str] = []
    for row in rows:
        got = chat.ask(row.question)
        if got.text != row.answer or not got.finished:
            wrong.append(f"{row.question} → {got.text}")
        elif got.min_gap < MEASURED_GAP_MIN:
            wrong.append(f"{row.question}: the gap is only {got.min_gap:.3f}")
    assert not wrong, "\n".join(wrong)


def test_file_is_small_and_matches_its_checksum() -> None:
    content = DEMO_MODEL_PATH.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert len(content) <= FILE_BYTES_MAX
    assert DEMO_MODEL_PATH.with_name("SHA256SUMS").read_text() == f"{digest}  {DEMO_MODEL_PATH.name}\n"
    assert digest in DOCUMENT_PATH.read_text(encoding="utf-8")


def test_metadata_labels_it_a_demo(chat: GreedyChat) -> None:
    metadata = chat.llama.metadata
    assert "demo" in metadata["general.name"]
    assert "only knows this appliance" in metadata["general.description"]
    assert metadata["general.license"] == "demo only"
    assert metadata["general.author"]
    assert metadata["tokenizer.chat_template"]


@pytest.mark.slow
@pytest.mark.parametrize("lang", LANGS)
def test_documented_questions(chat: GreedyChat, golden: list[Golden], corpus: Corpus, lang: Lang) -> None:
    rows = [row for row in golden if row.language == lang and row.topic != OFF_TOPIC]
    assert len({row.question for row in rows}) >= QUESTIONS_MIN
    assert all(row.answer == corpus.answer(row.topic, lang) for row in rows)
    assert all(row.min_gap >= MIN_GAP for row in rows)
    assert_answers(chat, rows)


@pytest.mark.parametrize("lang", LANGS)
def test_off_topic_questions_are_refused(chat: GreedyChat, golden: list[Golden], corpus: Corpus, lang: Lang) -> None:
    rows = [row for row in golden if row.language == lang and row.topic == OFF_TOPIC]
    assert len({row.question for row in rows}) >= OFF_TOPIC_MIN
    assert {row.answer for row in rows} == {corpus.off_topic.answers[lang]}
    assert_answers(chat, rows)


def test_questions_that_other_documents_and_tests_rely_on(golden: list[Golden]) -> None:
    questions = {row.question for row in golden}
    assert {"What is mutual TLS?", "Who are you?", "什么是双向 TLS？", "你是谁？"} <= questions


def test_the_template_renders_tools(chat: GreedyChat) -> None:
    schemas = [tool.schema() for tool in TOOLS.values()]
    prompt = chat.prompt([{"role": "user", "content": "What time is it?"}], schemas)
    listed = prompt.split("<tools>\n", 1)[1].split("\n</tools>", 1)[0]
    assert [json.loads(line) for line in listed.split("\n")] == schemas
    assert prompt.endswith("<|im_start|>user\nWhat time is it?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(("lang", "question", "name"), TOOL_QUESTIONS)
def test_tool_call_and_answer(chat: GreedyChat, lang: Lang, question: str, name: str) -> None:
    """A Hermes call, then an answer that repeats the numbers of the result."""
    schemas = [tool.schema() for tool in TOOLS.values()]
    messages: list[dict[str, object]] = [{"role": "user", "content": question}]
    call = chat.answer(messages, schemas)
    assert call.finished
    assert call.min_gap >= MEASURED_GAP_MIN
    body = call.text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    assert len(call.text) - len(body) == len("<tool_call>\n\n</tool_call>")
    assert json.loads(body) == {"name": name, "arguments": {}}

    result = TOOL_RESULTS[name]
    function = {"name": name, "arguments": "{}"}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": json.dumps(result)},
    ]
    assert chat.answer(messages, schemas).text == TOOLS[name].answer(result, lang)


@pytest.mark.parametrize(
    ("lang", "topic", "question"),
    [
        ("en", "mtls", "What is mutual TLS? Answer as JSON."),
        ("zh", "mtls", "请用 JSON 回答：什么是双向 TLS？"),
    ],
)
def test_json_answer(chat: GreedyChat, corpus: Corpus, lang: Lang, topic: str, question: str) -> None:
    assert json.loads(chat.ask(question).text) == {"answer": corpus.answer(topic, lang)}


def test_multi_turn_switches_the_language(chat: GreedyChat, corpus: Corpus) -> None:
    messages = [
        {"role": "user", "content": "What is mutual TLS?"},
        {"role": "assistant", "content": corpus.answer("mtls", "en")},
        {"role": "user", "content": "用中文说"},
    ]
    assert chat.answer(messages).text == corpus.answer("mtls", "zh")


def test_no_question_belongs_to_two_topics(corpus: Corpus) -> None:
    assert corpus.conflicts == []


def test_document_shows_the_documented_questions(golden: list[Golden]) -> None:
    _, shown, _ = split_document(DOCUMENT_PATH.read_text(encoding="utf-8"))
    assert shown == tables(golden)
