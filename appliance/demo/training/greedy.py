"""Greedy chat with one GGUF file in llama.cpp that also reports how sure each choice was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

ANSWER_TOKENS_MAX = 200
CONTEXT_TOKENS = 2048
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """`min_gap`: smallest distance between the two best logits over all steps, the stop token included.

    `finished`: the model stopped by itself; otherwise the answer reached a limit.
    """

    text: str
    min_gap: float
    finished: bool


class GreedyChat:
    """Not thread-safe; each call blocks until the answer is complete. Close it to free the model."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.llama: Any = llama_cpp.Llama(
            str(path),
            n_ctx=CONTEXT_TOKENS,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=0,
            verbose=False,
        )
        self._stop: int = self.llama.token_eos()
        self._formatter: Any = Jinja2ChatFormatter(
            self.llama.metadata["tokenizer.chat_template"],
            eos_token="<|im_end|>",
            bos_token="",
            add_generation_prompt=True,
        )

    def close(self) -> None:
        self.llama.close()

    def prompt(self, messages: Sequence[Message], tools: Sequence[Message] | None = None) -> str:
        """The messages as the chat template of the file renders them."""
        text: str = self._formatter(messages=messages, tools=tools).prompt
        return text

    def tokens(self, text: str) -> list[int]:
        ids: list[int] = self.llama.tokenize(text.encode(), add_bos=False, special=True)
        return ids

    def ask(self, question: str) -> Answer:
        """One question without a system prompt, as the documentation shows it."""
        return self.answer([{"role": "user", "content": question}])

    def answer(self, messages: Sequence[Message], tools: Sequence[Message] | None = None) -> Answer:
        ids = self.tokens(self.prompt(messages, tools))
        limit = min(ANSWER_TOKENS_MAX, CONTEXT_TOKENS - len(ids))
        written: list[int] = []
        min_gap = float("inf")
        self.llama.reset()
        self.llama.eval(ids)
        while len(written) < limit:
            best, gap = self._best_token()
            min_gap = min(min_gap, gap)
            if best == self._stop:
                return Answer(self._text(written), min_gap, finished=True)
            written.append(best)
            self.llama.eval([best])
        return Answer(self._text(written), min_gap, finished=False)

    def _best_token(self) -> tuple[int, float]:
        """The best next token and its lead over the second best."""
        pointer = llama_cpp.llama_get_logits_ith(self.llama.ctx, -1)
        logits = np.ctypeslib.as_array(pointer, shape=(self.llama.n_vocab(),))
        second, best = np.argpartition(logits, -2)[-2:]
        if logits[second] > logits[best]:
            second, best = best, second
        return int(best), float(logits[best] - logits[second])

    def _text(self, ids: list[int]) -> str:
        raw: bytes = self.llama.detokenize(ids, special=True)
        return raw.decode("utf-8", errors="replace")
