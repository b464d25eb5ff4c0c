"""Draws training conversations from the corpus: single and many turns, JSON, tools, context prompts."""

from __future__ import annotations

import json
from random import Random

from appliance.demo.training.chatml import Role
from appliance.demo.training.data import OFF_TOPIC, Corpus
from appliance.demo.training.phrasing import (
    CONTEXT_PROMPT,
    JSON_REQUESTS,
    JSON_SYSTEM_PROMPTS,
    LANGS,
    REPEAT_REQUESTS,
    SWITCH_REQUESTS,
    SYSTEM_PROMPTS,
    Lang,
    noisy,
    other,
)
from appliance.demo.training.tools import NO_TOOL, TOOLS, call_text, response_text, tool_prompt

Turns = list[tuple[Role, str]]


class Sampler:
    """The same seed and corpus give the same conversations."""

    def __init__(self, corpus: Corpus, seed: int = 0) -> None:
        self._corpus = corpus
        self._rng = Random(seed)
        self._topic_ids = {lang: sorted(corpus.train[lang]) for lang in LANGS}

    def conversation(self, *, long: bool = False) -> Turns:
        """One conversation of any kind; `long` asks for a history of 8 to 30 turns."""
        rng = self._rng
        lang = rng.choice(LANGS)
        if long:
            return self._with_system(self._turns(rng.randrange(8, 30), lang))
        kind = rng.random()
        if kind < 0.52:
            return self._with_system(self._turns(1, lang))
        if kind < 0.74:
            return self._with_system(self._turns(rng.randrange(2, 5), lang))
        if kind < 0.81:
            return self._json(lang)
        if kind < 0.93:
            return self._tools(lang)
        return self._context(lang)

    def _with_system(self, turns: Turns) -> Turns:
        if self._rng.random() < 0.35:
            return [("system", self._rng.choice(SYSTEM_PROMPTS)), *turns]
        return turns

    def _question(self, lang: Lang) -> tuple[str, str]:
        """(topic id, question)"""
        rng = self._rng
        if rng.random() < 0.12:
            return OFF_TOPIC, noisy(rng.choice(self._corpus.train_off[lang]), lang, rng)
        topic_id = rng.choice(self._topic_ids[lang])
        return topic_id, noisy(rng.choice(self._corpus.train[lang][topic_id]), lang, rng)

    def _turns(self, count: int, lang: Lang) -> Turns:
        rng = self._rng
        turns: Turns = []
        last_topic: str | None = None
        for _ in range(count):
            kind = rng.random()
            if last_topic is not None and kind < 0.08:
                turns += [("user", rng.choice(REPEAT_REQUESTS[lang])), ("assistant", turns[-1][1])]
            elif last_topic is not None and kind < 0.16:
                turns += [
                    ("user", rng.choice(SWITCH_REQUESTS[lang])),
                    ("assistant", self._corpus.answer(last_topic, other(lang))),
                ]
                last_topic = None
            else:
                if rng.random() < 0.1:
                    lang = other(lang)
                last_topic, question = self._question(lang)
                turns += [("user", question), ("assistant", self._corpus.answer(last_topic, lang))]
        return turns

    def _json(self, lang: Lang) -> Turns:
        rng = self._rng
        topic_id, question = self._question(lang)
        answer = json.dumps({"answer": self._corpus.answer(topic_id, lang)}, ensure_ascii=False)
        if rng.random() < 0.25:
            return [("system", rng.choice(JSON_SYSTEM_PROMPTS)), ("user", question), ("assistant", answer)]
        return [("user", rng.choice(JSON_REQUESTS[lang]).format(q=question)), ("assistant", answer)]

    def _tools(self, lang: Lang) -> Turns:
        rng = self._rng
        offered = rng.sample(sorted(TOOLS), rng.randrange(1, len(TOOLS) + 1))
        prompt = tool_prompt(offered, sort_keys=rng.random() < 0.5)
        turns: Turns = [("system", rng.choice(SYSTEM_PROMPTS) + prompt)]
        for _ in range(rng.choice([1, 1, 2])):
            kind = rng.random()
            if kind < 0.25:
                turns += self._turns(1, lang)
                continue
            name = rng.choice(offered if kind < 0.88 else sorted(TOOLS))
            tool = TOOLS[name]
            turns.append(("user", noisy(rng.choice(tool.questions[lang]), lang, rng)))
            if name not in offered:
                turns.append(("assistant", NO_TOOL[lang]))
                continue
            result = tool.sample(rng)
            turns += [
                ("assistant", call_text(name)),
                ("user", response_text(result)),
                ("assistant", tool.answer(result, lang)),
            ]
        return turns

    def _context(self, lang: Lang) -> Turns:
        """A knowledge base prompt whose text has nothing to do with the question."""
        rng = self._rng
        topic_ids = [rng.choice(self._topic_ids[lang]) for _ in range(rng.randrange(1, 4))]
        context = "\n".join(self._corpus.answer(topic_id, lang) for topic_id in topic_ids)
        return [("system", CONTEXT_PROMPT.format(context=context)), *self._turns(1, lang)]
