"""The texts of the demo model: topics, off-topic questions, and the questions made from them.

    python -m appliance.demo.training.data          # counts; fails on a question that two topics claim

Needs the standard library only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from appliance.demo.training.phrasing import LANGS, NOUN_TEMPLATES, TASK_TEMPLATES, Lang, split_variants

DATA_DIR: Final = Path(__file__).resolve().parent / "data"
TOPIC_FILES: Final = ("about", "product", "security", "models", "engine", "api", "dify", "operation", "trouble")
OFF_TOPIC: Final = "offtopic"
HELD_OUT_PER_MILLE: Final = 100
# Lists of single words and moods: a held-out entry could not be inferred from the others.
NEVER_HELD_OUT: Final = frozenset({"hello", "thanks", "bye", "ok", "test"})
OFF_TOPIC_DRAWS_PER_TEMPLATE: Final = 60

Phrases = Mapping[Lang, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing the model knows: every way to ask for it and the one answer, in both languages."""

    id: str
    answers: Mapping[Lang, str]
    nouns: Phrases
    tasks: Phrases
    questions: Phrases

    def templated(self, lang: Lang) -> Iterator[str]:
        for template in NOUN_TEMPLATES[lang]:
            yield from (template.format(x=noun) for noun in self.nouns[lang])
        for template in TASK_TEMPLATES[lang]:
            yield from (template.format(x=task) for task in self.tasks[lang])


@dataclass(frozen=True, slots=True)
class OffTopic:
    """Questions to refuse: templates whose {slot} is filled at random, and complete questions."""

    answers: Mapping[Lang, str]
    templates: Phrases
    plain: Phrases
    slots: Mapping[Lang, Mapping[str, tuple[str, ...]]]

    def questions(self, lang: Lang) -> list[str]:
        """Sorted and the same on every call."""
        rng = Random(0)
        made = set(self.plain[lang])
        for template in self.templates[lang]:
            for _ in range(OFF_TOPIC_DRAWS_PER_TEMPLATE):
                made.add(re.sub(r"\{(\w+)\}", lambda m: rng.choice(self.slots[lang][m.group(1)]), template))
        return sorted(made)


def parse_fields(text: str) -> list[dict[str, str]]:
    """Blocks of `## id` and `key: value` lines; the id is stored under the key `id`.

    Raises ValueError on a line that is neither, nor empty, nor a comment, and on a repeated key.
    """
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        if line.startswith("## "):
            blocks.append({"id": line[3:].strip()})
        elif line and not line.startswith("#"):
            key, colon, value = line.partition(":")
            if not blocks or not colon or key in blocks[-1]:
                raise ValueError(f"unexpected line: {line!r}")
            blocks[-1][key] = value.strip()
    return blocks


def _phrases(block: dict[str, str], key: str) -> Phrases:
    return {"en": split_variants(block.pop(key, "")), "zh": split_variants(block.pop("z" + key, ""))}


def load_topics() -> list[Topic]:
    """Every topic, in file order. Raises ValueError on an unknown or missing field or a repeated id."""
    topics: dict[str, Topic] = {}
    for name in TOPIC_FILES:
        for block in parse_fields((DATA_DIR / f"{name}.txt").read_text(encoding="utf-8")):
            try:
                topic = Topic(
                    id=block.pop("id"),
                    answers={"en": block.pop("a"), "zh": block.pop("za")},
                    nouns=_phrases(block, "t"),
                    tasks=_phrases(block, "d"),
                    questions=_phrases(block, "q"),
                )
            except KeyError as error:
                raise ValueError(f"{name}: field {error} is missing near {block}") from error
            if block or topic.id in topics:
                raise ValueError(f"{name}: {topic.id}: unknown fields {sorted(block)} or the id is used twice")
            topics[topic.id] = topic
    return list(topics.values())


def load_off_topic() -> OffTopic:
    (block,) = parse_fields((DATA_DIR / "offtopic.txt").read_text(encoding="utf-8"))
    del block["id"]
    answers: dict[Lang, str] = {"en": block.pop("a"), "zh": block.pop("za")}
    templates: Phrases = {lang: split_variants(block.pop(lang)) for lang in LANGS}
    plain: Phrases = {lang: split_variants(block.pop(f"{lang}_plain")) for lang in LANGS}
    numbers = {"num": tuple(str(n) for n in range(2, 100))}
    slots: dict[Lang, dict[str, tuple[str, ...]]] = {"en": dict(numbers), "zh": dict(numbers)}
    for key, value in block.items():
        lang: Lang = "zh" if key.startswith("z") else "en"
        slots[lang][key.removeprefix("z")] = split_variants(value)
    return OffTopic(answers, templates, plain, slots)


def load_free_phrasings() -> list[tuple[Lang, str, str]]:
    """(language, topic id, question): never trained on, for evaluation only."""
    rows: list[tuple[Lang, str, str]] = []
    for line in (DATA_DIR / "free.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            topic_id, question = line.split(" | ", 1)
            rows.append(("zh" if re.search(r"[\u4e00-\u9fff]", question) else "en", topic_id, question))
    return rows


def is_held_out(question: str) -> bool:
    """A fixed tenth of all questions, by hash."""
    digest = hashlib.sha1(question.lower().encode(), usedforsecurity=False).hexdigest()
    return int(digest, 16) % 1000 < HELD_OUT_PER_MILLE


def normalised(question: str) -> str:
    return re.sub(r"[\s?？.。!！,，]+", " ", question.lower()).strip()


class Corpus:
    """Questions of every topic, split into training and held-out phrasings.

    `train` and `held_out`: language → topic id → questions. `conflicts`: questions that two topics claim;
    the first topic keeps them, and a complete question goes before a templated one.
    """

    def __init__(self, *, train_on_everything: bool = False) -> None:
        self.topics = {topic.id: topic for topic in load_topics()}
        self.off_topic = load_off_topic()
        self.train: dict[Lang, dict[str, list[str]]] = {"en": {}, "zh": {}}
        self.held_out: dict[Lang, dict[str, list[str]]] = {"en": {}, "zh": {}}
        self.conflicts: list[tuple[str, str, str]] = []
        for lang in LANGS:
            for topic_id, question in self._owned_questions(lang):
                keep = train_on_everything or topic_id in NEVER_HELD_OUT or not is_held_out(question)
                (self.train if keep else self.held_out)[lang].setdefault(topic_id, []).append(question)
        self.train_off: dict[Lang, list[str]] = {}
        self.held_out_off: dict[Lang, list[str]] = {}
        for lang in LANGS:
            questions = self.off_topic.questions(lang)
            self.train_off[lang] = [q for q in questions if not is_held_out(q)]
            self.held_out_off[lang] = [q for q in questions if is_held_out(q)]

    def _owned_questions(self, lang: Lang) -> Iterator[tuple[str, str]]:
        """(topic id, question), complete questions of all topics first, each question once."""
        owner: dict[str, str] = {}
        written: set[str] = set()
        for topic in self.topics.values():
            for question in topic.questions[lang]:
                written.add(normalised(question))
                if self._claim(owner, question, topic.id):
                    yield topic.id, question
        for topic in self.topics.values():
            for question in topic.templated(lang):
                if normalised(question) not in written and self._claim(owner, question, topic.id):
                    yield topic.id, question

    def _claim(self, owner: dict[str, str], question: str, topic_id: str) -> bool:
        key = normalised(question)
        if key not in owner:
            owner[key] = topic_id
            return True
        if owner[key] != topic_id:
            self.conflicts.append((question, owner[key], topic_id))
        return False

    def answer(self, topic_id: str, lang: Lang) -> str:
        source = self.off_topic.answers if topic_id == OFF_TOPIC else self.topics[topic_id].answers
        return source[lang]


def main() -> int:
    corpus = Corpus()
    print(len(corpus.topics), "topics")
    for lang in LANGS:
        trained = sum(map(len, corpus.train[lang].values()))
        held_out = sum(map(len, corpus.held_out[lang].values()))
        off_topic = f"{len(corpus.train_off[lang])} off-topic, {len(corpus.held_out_off[lang])} held out"
        print(f"{lang}: {trained} questions, {held_out} held out, {off_topic}")
        for topic in corpus.topics.values():
            if topic.id not in corpus.train[lang]:
                raise ValueError(f"topic {topic.id} has no question in {lang}")
    for question, first, second in corpus.conflicts:
        print(f"conflict: {question!r} is claimed by {first} and {second}")
    return 1 if corpus.conflicts else 0


if __name__ == "__main__":
    raise SystemExit(main())
