"""What the clients of a measurement ask, as data: the same texts in every run, for every contestant."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.types import SamplingParams

# Every request samples like this, runs to its last token and brings its own seed, so that token counts are equal.
SAMPLING: Final = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, ignore_eos=True)

# Nearly one token each in Qwen2's vocabulary (1.06), with the space before it.
_SENTENCE: Final = (
    "the model server keeps every request inside the intranet and never sends data out while operators watch memory "
    "latency and logs on a terminal dashboard because auditors ask who called which model when and with what key "
    "network policy allows only listed addresses with client certificates issued by a private authority"
)
_WORDS: Final = tuple(_SENTENCE.split())
_SYSTEM_WORDS: Final = 600
_MIXED_WORDS: Final = (100, 2000)


@dataclass(frozen=True, slots=True)
class Question:
    """One request of `tokens` answer tokens. system: empty where there is none."""

    own: str
    tokens: int
    seed: int
    system: str = ""

    @property
    def prompt(self) -> str:
        """The ChatML text, written out so that no server's template matters."""
        system = f"<|im_start|>system\n{self.system}<|im_end|>\n" if self.system else ""
        return f"{system}<|im_start|>user\n{self.own}<|im_end|>\n<|im_start|>assistant\n"

    @property
    def sampling(self) -> SamplingParams:
        """SAMPLING with this question's seed."""
        return msgspec.structs.replace(SAMPLING, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Client:
    """Asks its questions in order, each when the answer before it is whole. chat: each continues the dialogue."""

    questions: tuple[Question, ...]
    chat: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """All clients begin at once."""

    clients: tuple[Client, ...]


def numbered(number: int, words: int, tokens: int) -> Question:
    """The question of that number; no two begin alike."""
    write = random.Random(f"numbered{number}")
    return Question(_text(write, words), tokens, _seed(write))


def distinct(clients: int, requests: int, words: int, tokens: int, salt: str = "") -> Workload:
    """Prompts without anything in common; another `salt` gives other texts."""
    write = random.Random(f"distinct{salt}")
    return Workload(
        tuple(
            Client(tuple(Question(_text(write, words), tokens, _seed(write)) for _ in range(requests)))
            for _ in range(clients)
        )
    )


def dify(clients: int = 16, requests: int = 2, tokens: int = 48) -> Workload:
    """A Dify application: every request has the same 600-word system prompt and 165 words of its own."""
    write = random.Random("dify")
    system = _text(write, _SYSTEM_WORDS)
    return Workload(
        tuple(
            Client(tuple(Question(_text(write, 165), tokens, _seed(write), system) for _ in range(requests)))
            for _ in range(clients)
        )
    )


def dify_mixed(clients: int = 16, requests: int = 2, tokens: int = 48) -> Workload:
    """Two applications, 3:1 by requests. Own words: log-uniform from 100 to 2,000, median 447."""
    write = random.Random("dify-mixed")
    systems = [_text(write, _SYSTEM_WORDS) for _ in range(2)]
    low, high = map(math.log, _MIXED_WORDS)

    def question(number: int) -> Question:
        words = round(math.exp(write.uniform(low, high)))
        return Question(_text(write, words), tokens, _seed(write), systems[number % 4 == 3])

    # Requests are dealt in rows, so that each client meets both applications over time.
    dealt = [[question(turn * clients + client + turn) for client in range(clients)] for turn in range(requests)]
    return Workload(tuple(Client(questions) for questions in zip(*dealt, strict=True)))


def chats(clients: int = 4, turns: int = 4, tokens: int = 64, salt: str = "") -> Workload:
    """Dialogues: a system prompt of 200 words that only its own chat uses, then turns of 40 words.

    Another `salt` gives other texts.
    """
    write = random.Random(f"chats{salt}")
    dialogues = []
    for _ in range(clients):
        first = Question(_text(write, 40), tokens, _seed(write), _text(write, 200))
        rest = (Question(_text(write, 40), tokens, _seed(write)) for _ in range(turns - 1))
        dialogues.append(Client((first, *rest), chat=True))
    return Workload(tuple(dialogues))


def _text(write: random.Random, words: int) -> str:
    return " ".join(write.choices(_WORDS, k=words))


def _seed(write: random.Random) -> int:
    return write.randrange(2**31)
