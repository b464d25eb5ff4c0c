"""The texts the demo model learned: well-formed, and true where the product can be asked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from appliance.access_config import DEFAULT_PORT
from appliance.cli import app
from appliance.config import Config
from appliance.demo.training.chatml import prompt_text, render
from appliance.demo.training.data import (
    OFF_TOPIC,
    Corpus,
    Topic,
    load_free_phrasings,
    load_off_topic,
    load_topics,
    normalised,
    parse_fields,
)
from appliance.demo.training.phrasing import LANGS, Lang
from appliance.types import ModelSpec

ANSWER_CHARACTERS_MAX = 220
# Settings of a model that the texts name.
MODEL_KEYS = (
    "id", "path", "aliases", "n_gpu_layers", "n_ctx", "parallel", "kv", "n_batch", "n_ubatch", "cache_type_k",
    "cache_type_v", "flash_attn", "threads", "preload",
)  # fmt: skip
# What depends on how a release is packed and watched; an answer may name it only to say where that stands.
DEPENDS_ON_RELEASE = re.compile(r"systemd is|systemctl|journalctl|systemd 是", re.I)
CURLS_OWN_OPTIONS = frozenset({"--cert", "--key", "--cacert"})


def _children(command: Any) -> dict[str, Any]:
    """Of a group of commands; none of a command."""
    return dict(getattr(command, "commands", {}))


# The command line: name → its subcommands, and every option of any of them.
COMMANDS = {name: _children(command) for name, command in _children(get_command(app)).items()}
# Groups that do something by themselves.
ALONE = {
    name for name, command in _children(get_command(app)).items() if getattr(command, "invoke_without_command", False)
}
LEAVES = [leaf for command in _children(get_command(app)).values() for leaf in (command, *_children(command).values())]
OPTIONS = {
    "--help",
    *(
        option
        for leaf in LEAVES
        for parameter in leaf.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    ),
}


@pytest.fixture(scope="module")
def topics() -> dict[str, Topic]:
    return {topic.id: topic for topic in load_topics()}


@pytest.mark.parametrize("lang", LANGS)
def test_every_topic_has_questions_and_a_short_answer(topics: dict[str, Topic], lang: Lang) -> None:
    for topic in topics.values():
        answer = topic.answers[lang]
        assert topic.nouns[lang] or topic.tasks[lang] or topic.questions[lang], topic.id
        assert 0 < len(answer) <= ANSWER_CHARACTERS_MAX, topic.id
        assert bool(re.search(r"[\u4e00-\u9fff]", answer)) == (lang == "zh"), topic.id


def test_answers_promise_nothing_that_is_not_included(topics: dict[str, Topic]) -> None:
    for topic in topics.values():
        for answer in topic.answers.values():
            assert not DEPENDS_ON_RELEASE.search(answer) or "README.md" in answer, answer


def test_commands_in_the_answers_exist(topics: dict[str, Topic]) -> None:
    """In Chinese every `appliance word` is a command; in English it may be prose, unless the word is a group's name."""
    for topic in topics.values():
        for lang in LANGS:
            for name, word in re.findall(r"\bappliance ([a-z]+)(?: ([a-z][a-z-]*))?", topic.answers[lang]):
                assert name in COMMANDS or lang == "en", f"{topic.id}: appliance {name}"
                children = COMMANDS.get(name)
                assert not children or word in children or name in ALONE, f"{topic.id}: appliance {name} {word}"


def test_options_in_the_answers_exist(topics: dict[str, Topic]) -> None:
    for topic in topics.values():
        for answer in topic.answers.values():
            unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", answer)) - OPTIONS - CURLS_OWN_OPTIONS
            assert not unknown, f"{topic.id}: {unknown}"


def test_settings_of_appliance_yaml_in_the_answers_exist(topics: dict[str, Topic]) -> None:
    sections = {name: getattr(Config(), name) for name in Config.__struct_fields__}
    for topic in topics.values():
        for answer in topic.answers.values():
            for section, key in re.findall(r"\b([a-z_]+)\.([a-z_]+)\b", answer):
                fields = getattr(sections.get(section), "__struct_fields__", None)
                assert fields is None or key in fields or key == "yaml", f"{topic.id}: {section}.{key}"


def test_settings_in_the_answers_exist(topics: dict[str, Topic]) -> None:
    fields = set(ModelSpec.__struct_fields__)
    assert set(MODEL_KEYS) <= fields
    named = {word for topic in topics.values() for word in re.findall(r"\b(?:n|cache)_\w+", topic.answers["en"])}
    assert named
    assert named <= fields


def test_numbers_in_the_answers_are_the_defaults(topics: dict[str, Topic]) -> None:
    root = Path(__file__).resolve().parents[2]
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    mebibytes = Config().requests.body_bytes_max // 2**20
    for lang in LANGS:
        assert f"{Config().listeners['api'].host}:{DEFAULT_PORT}/v1" in topics["apiurl"].answers[lang]
        assert str(DEFAULT_PORT) in topics["firewall"].answers[lang]
        assert f"{mebibytes} MiB" in topics["e413"].answers[lang]
        assert version in topics["notincluded"].answers[lang]


def test_free_phrasings_name_topics_and_are_never_trained_on(topics: dict[str, Topic]) -> None:
    corpus = Corpus(train_on_everything=True)
    trained = {normalised(q) for lang in LANGS for questions in corpus.train[lang].values() for q in questions}
    for _, topic_id, question in load_free_phrasings():
        assert topic_id in topics or topic_id == OFF_TOPIC
        assert normalised(question) not in trained, question


def test_the_split_keeps_every_question_once() -> None:
    everything, split = Corpus(train_on_everything=True), Corpus()
    for lang in LANGS:
        whole = {q for questions in everything.train[lang].values() for q in questions}
        trained = {q for questions in split.train[lang].values() for q in questions}
        held_out = {q for questions in split.held_out[lang].values() for q in questions}
        assert trained | held_out == whole
        assert not trained & held_out
        assert 0.05 < len(held_out) / len(whole) < 0.15


def test_off_topic_questions_are_the_same_on_every_call() -> None:
    off_topic = load_off_topic()
    assert off_topic.questions("en") == off_topic.questions("en")
    assert not any("{" in question for lang in LANGS for question in off_topic.questions(lang))


@pytest.mark.parametrize("text", ["a: before any block", "## x\nno colon", "## x\na: 1\na: 2"])
def test_a_broken_text_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unexpected line"):
        parse_fields(text)


def test_only_answers_are_trained() -> None:
    pieces = render([("system", "S"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")])
    assert [text for text, trained in pieces if trained] == ["a<|im_end|>", "b<|im_end|>"]
    assert prompt_text([("user", "q")]) == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
