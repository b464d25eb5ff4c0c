"""Chooses the documented questions and writes them down: tests/demo/golden.jsonl and docs/DEMO_MODEL.md.

    python -m appliance.demo.training.golden

A question is documented if the released file answers it word for word as the texts say, and no choice on the way
was close: the gap between the two best logits never falls below MIN_GAP, so that other processors, batch sizes
and attention kernels give the same answer. Needs llama-cpp-python.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from appliance.demo import DEMO_MODEL_PATH
from appliance.demo.training.data import OFF_TOPIC, Corpus, Topic
from appliance.demo.training.greedy import GreedyChat
from appliance.demo.training.phrasing import LANGS, Lang

ROOT: Final = Path(__file__).resolve().parents[3]
GOLDEN_PATH: Final = ROOT / "tests/demo/golden.jsonl"
DOCUMENT_PATH: Final = ROOT / "docs/DEMO_MODEL.md"
MIN_GAP: Final = 1.0
QUESTIONS_MIN: Final = 60
OFF_TOPIC_QUESTIONS: Final = 10
TABLE_BEGIN: Final = "<!-- Written by appliance.demo.training.golden: begin -->"
TABLE_END: Final = "<!-- Written by appliance.demo.training.golden: end -->"
HEADINGS: Final[dict[Lang, str]] = {"en": "English", "zh": "Chinese"}
OFF_TOPIC_SAMPLES: Final[dict[Lang, tuple[str, ...]]] = {
    "en": (
        "What is the capital of France?",
        "Tell me a joke.",
        "What is the weather like?",
        "Who is Albert Einstein?",
        "What is 2 plus 3?",
        "Write a poem about love.",
        "How do I cook rice?",
        "Why is the sky blue?",
        "What is the speed of light?",
        "Write a Python program.",
        "Recommend a book.",
        "How old is the earth?",
        "What is the weather in Berlin?",
        "How tall is Mount Everest?",
        "Who won the world cup?",
    ),
    "zh": (
        "法国的首都是哪里？",
        "讲个笑话",
        "今天天气怎么样？",
        "爱因斯坦是谁？",
        "2加3等于几？",
        "写一首关于爱情的诗",
        "怎么做米饭？",
        "天空为什么是蓝色的？",
        "光速是多少？",
        "写一个Python程序",
        "推荐一个书",
        "地球多少岁？",
        "北京的天气怎么样？",
        "珠穆朗玛峰多高？",
        "世界杯谁赢了？",
    ),
}


@dataclass(frozen=True, slots=True)
class Golden:
    """A documented question and the answer of the released file to it."""

    language: Lang
    topic: str
    question: str
    answer: str
    min_gap: float


def read_golden(path: Path = GOLDEN_PATH) -> list[Golden]:
    return [Golden(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def candidates(topic: Topic, lang: Lang) -> Iterator[str]:
    """Questions about a topic as one would print them, the clearest first."""
    if lang == "zh":
        yield from (f"什么是{noun}？" for noun in topic.nouns[lang])
        yield from topic.questions[lang]
        yield from (f"怎么{task}？" for task in topic.tasks[lang])
        return
    nouns = topic.nouns[lang]
    yield from (f"What is {noun}?" for noun in nouns if not noun.endswith("s"))
    yield from (question[:1].upper() + question[1:] for question in topic.questions[lang])
    yield from (f"How do I {task}?" for task in topic.tasks[lang])
    yield from (f"Explain {noun}." for noun in nouns)


def choose(chat: GreedyChat, corpus: Corpus) -> Iterator[Golden]:
    """At most one question for each topic and language, then off-topic questions that are refused."""
    for lang in LANGS:
        for topic in corpus.topics.values():
            sure = _sure(chat, topic.id, lang, candidates(topic, lang), topic.answers[lang])
            yield from islice(sure, 1)
        sure = _sure(chat, OFF_TOPIC, lang, OFF_TOPIC_SAMPLES[lang], corpus.off_topic.answers[lang])
        yield from islice(sure, OFF_TOPIC_QUESTIONS)


def _sure(chat: GreedyChat, topic_id: str, lang: Lang, questions: Iterable[str], answer: str) -> Iterator[Golden]:
    for question in questions:
        got = chat.ask(question)
        if got.finished and got.text == answer and got.min_gap >= MIN_GAP:
            yield Golden(lang, topic_id, question, answer, round(got.min_gap, 3))


def tables(rows: Sequence[Golden]) -> str:
    """The documented questions in Markdown."""
    parts: list[str] = []
    for lang in LANGS:
        chosen = [row for row in rows if row.language == lang]
        parts.append(f"### {HEADINGS[lang]} ({len(chosen)} questions)\n")
        parts.append("| Question | Answer | Smallest gap |\n| --- | --- | --- |")
        parts += [f"| {row.question} | {row.answer} | {row.min_gap:.2f} |" for row in chosen]
        parts.append("")
    return "\n".join(parts)


def split_document(document: str) -> tuple[str, str, str]:
    """What stands before, between and after the markers. Raises ValueError when they are missing."""
    before, begin, rest = document.partition(TABLE_BEGIN + "\n")
    inside, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise ValueError("the markers of the tables are missing")
    return before + begin, inside, end + after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL_PATH)
    options = parser.parse_args()
    chat, corpus = GreedyChat(options.model), Corpus(train_on_everything=True)
    rows = list(choose(chat, corpus))
    chat.close()
    lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows]
    GOLDEN_PATH.write_text("".join(lines), encoding="utf-8")
    before, _, after = split_document(DOCUMENT_PATH.read_text(encoding="utf-8"))
    DOCUMENT_PATH.write_text(before + tables(rows) + after, encoding="utf-8")
    counts = {lang: sum(row.language == lang for row in rows) for lang in LANGS}
    found = {(row.language, row.topic) for row in rows}
    for lang in LANGS:
        missing = [topic for topic in corpus.topics if (lang, topic) not in found]
        print(f"{lang}: {counts[lang]} questions; no sure question for: {' '.join(missing) or '-'}")
    return 0 if min(counts.values()) >= QUESTIONS_MIN else 1


if __name__ == "__main__":
    raise SystemExit(main())
