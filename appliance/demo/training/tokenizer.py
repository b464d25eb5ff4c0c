"""Byte-level BPE tokenizer with the qwen2 pre-tokenizer of llama.cpp.

python -m appliance.demo.training.tokenizer          # writes tokenizer.json next to this file
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from appliance.demo.training import phrasing
from appliance.demo.training.data import Corpus
from appliance.demo.training.phrasing import LANGS
from appliance.demo.training.tools import NO_TOOL, TOOLS, call_text, response_text, tool_prompt

TOKENIZER_PATH: Final = Path(__file__).resolve().parent / "tokenizer.json"
# CONTROL tokens are never printed; USER_DEFINED ones are (a client must see <tool_call>).
CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED: Final = ("<tool_call>", "</tool_call>", "<think>", "</think>")
# Must stay identical to LLAMA_VOCAB_PRE_TYPE_QWEN2 in llama.cpp (src/llama-vocab.cpp).
QWEN2_PATTERN: Final = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY_SIZE: Final = 4096
TOOL_RESULTS_SAMPLED: Final = 40
_HAN_RUN = re.compile(r"[\u3400-\u9fff]+")


def texts() -> Iterator[str]:
    """Every distinct text the model reads or writes, each about once."""
    corpus = Corpus(train_on_everything=True)
    for topic in corpus.topics.values():
        for lang in LANGS:
            yield from (topic.answers[lang], topic.answers[lang])
            yield from topic.nouns[lang] + topic.tasks[lang] + topic.questions[lang]
    for lang in LANGS:
        for group in (
            phrasing.NOUN_TEMPLATES,
            phrasing.TASK_TEMPLATES,
            phrasing.PREFIXES,
            phrasing.SUFFIXES,
            phrasing.JSON_REQUESTS,
            phrasing.REPEAT_REQUESTS,
            phrasing.SWITCH_REQUESTS,
            corpus.off_topic.templates,
            corpus.off_topic.plain,
            *(tool.questions for tool in TOOLS.values()),
        ):
            yield from group[lang]
        for words in corpus.off_topic.slots[lang].values():
            yield from words
        yield from (corpus.off_topic.answers[lang], NO_TOOL[lang])
    yield from phrasing.SYSTEM_PROMPTS + phrasing.JSON_SYSTEM_PROMPTS
    yield phrasing.CONTEXT_PROMPT
    rng = Random(1)
    for tool in TOOLS.values():
        for _ in range(TOOL_RESULTS_SAMPLED):
            result = tool.sample(rng)
            yield from (response_text(result), tool.answer(result, "en"), tool.answer(result, "zh"))
            yield call_text(tool.name)
    for _ in range(3):
        yield tool_prompt(sorted(TOOLS))
        yield from ("system", "user", "assistant", "tool_response", '{"answer": "', '."}', '。"}')


def _two_character_windows(lines: Iterable[str]) -> Iterator[str]:
    """Chinese has no spaces, so a whole phrase would become one token.

    Feeding the trainer only two-character windows limits Chinese tokens to two characters.
    """
    for line in lines:
        yield _HAN_RUN.sub("\n", line)
        for run in _HAN_RUN.findall(line):
            if len(run) == 1:
                yield run
            for at in range(len(run) - 1):
                yield run[at : at + 2]


def train(lines: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in CONTROL]
    special += [AddedToken(text, special=False, normalized=False) for text in USER_DEFINED]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=special,
    )
    tokenizer.train_from_iterator(_two_character_windows(lines), trainer)
    return tokenizer


def load(dropout: float | None = None) -> Tokenizer:
    """The committed tokenizer. `dropout` makes it split the same words differently from call to call."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER_PATH))
    tokenizer.model.dropout = dropout
    return tokenizer


def main() -> None:
    tokenizer = train(texts())
    tokenizer.save(str(TOKENIZER_PATH))
    print("vocabulary:", tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
