"""Measures a GGUF file of the demo model in llama.cpp: answers, tools, JSON, template, speed.

    python -m appliance.demo.training.evaluate [--model FILE] [--limit 1500] [--held-out]
    python -m appliance.demo.training.evaluate --checkpoint build/demo/checkpoint.pt    # also tokens and logits

Needs llama-cpp-python; with --checkpoint PyTorch and tokenizers too. Prints one JSON object; the wrong answers go
to the file named by --misses. It compares with the texts in data/ and does not know whether they are true.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from appliance.demo import DEMO_MODEL_PATH
from appliance.demo.training.chatml import prompt_text
from appliance.demo.training.data import OFF_TOPIC, Corpus, load_free_phrasings
from appliance.demo.training.greedy import CONTEXT_TOKENS, GreedyChat
from appliance.demo.training.phrasing import (
    CONTEXT_PROMPT,
    JSON_REQUESTS,
    LANGS,
    REPEAT_REQUESTS,
    SWITCH_REQUESTS,
    noisy,
    other,
)
from appliance.demo.training.sampler import Sampler
from appliance.demo.training.tools import TOOLS, call_text, response_text, tool_prompt

CONVERSATIONS_COMPARED = 300
SAMPLES_PER_KIND = 50
OFF_TOPIC_SAMPLES = 200
LONG_HISTORY_TOKENS = 1850
STRESS_TEXTS = (
    "",
    " ",
    "\n",
    "\n\n\n",
    "  two  spaces ",
    "\ttab\tx",
    "a\r\nb\r\n",
    "don't I'LL we'Re O'Neil's",
    "12345 3.14 1,000",
    "你好，世界！  中文ABC混排123。",
    "显存24GB？？",
    "…—「」《》、；：",
    "emoji 😀🚀 ok",
    "naïve café Ünïcode",
    "日本語 한국어 русский",
    '<tool_call>\n{"name": "x"}\n</tool_call>',
    "<think>\n\n</think>\n\nhi",
    "a<|im_end|>\nb",
    '{"a": [1, 2, {"b": null}]}',
    "http://10.0.0.1:8443/v1?x=1&y=2",
    "snake_case camelCase --flag=-1",
    "\u3000全角空格\u3000",
    "𠀀罕用字 龘",
    "x" * 300,
    "e\u0301 combining",
)


@dataclass(slots=True)
class Report:
    """Counts of exact answers by kind, other figures, and every miss."""

    counts: dict[str, list[int]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    misses: list[dict[str, str]] = field(default_factory=list)

    def compare(self, kind: str, asked: str, got: str, wanted: str) -> bool:
        count = self.counts.setdefault(kind, [0, 0])
        count[0] += got == wanted
        count[1] += 1
        if got != wanted:
            self.misses.append({"kind": kind, "asked": asked, "got": got, "wanted": wanted})
        return got == wanted

    def to_dict(self) -> dict[str, Any]:
        rates = {kind: f"{ok}/{total} = {ok / total:.1%}" for kind, (ok, total) in self.counts.items()}
        return self.figures | rates


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def check_template(chat: GreedyChat, report: Report) -> None:
    """The template of the file renders what training saw, also for tools in OpenAI's form."""
    sampler = Sampler(Corpus(), seed=11)
    for _ in range(CONVERSATIONS_COMPARED):
        conversation = sampler.conversation()
        while conversation[-1][0] == "assistant":
            conversation.pop()
        got = chat.prompt([{"role": role, "content": text} for role, text in conversation])
        report.compare("template", repr(conversation), got, prompt_text(conversation))
    names = ["get_time", "get_queue"]
    messages = [{"role": "system", "content": "S"}, user("q"), tool_call("get_time"), tool_message("{}")]
    got = chat.prompt(messages, [TOOLS[name].schema() for name in names])
    wanted = [
        prompt_text([
            ("system", "S" + tool_prompt(names, sort_keys=sort_keys)), ("user", "q"),
            ("assistant", call_text("get_time")), ("user", response_text({})),
        ])
        for sort_keys in (False, True)
    ]  # fmt: skip
    report.compare("template", "tools", got, got if got in wanted else wanted[0])


def tool_call(name: str) -> dict[str, Any]:
    function = {"name": name, "arguments": "{}"}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def tool_message(content: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": "1", "content": content}


def check_answers(chat: GreedyChat, corpus: Corpus, limit: int, report: Report, *, held_out: bool) -> None:
    """Single questions without a system prompt, as they are and as a hurried person types them."""
    rng = Random(3)
    for lang in LANGS:
        groups = {"question": (corpus.train, limit)}
        if held_out:
            groups["held_out"] = (corpus.held_out, limit)
        for kind, (split, count) in groups.items():
            pairs = [(topic_id, q) for topic_id, questions in split[lang].items() for q in questions]
            for topic_id, question in rng.sample(pairs, min(count, len(pairs))):
                wanted = corpus.answer(topic_id, lang)
                report.compare(f"{kind}_{lang}", question, chat.ask(question).text, wanted)
                if rng.random() < 0.25:
                    slip = noisy(question, lang, rng)
                    report.compare(f"{kind}_noisy_{lang}", slip, chat.ask(slip).text, wanted)
        refusal = corpus.answer(OFF_TOPIC, lang)
        for kind, questions in (("trained", corpus.train_off[lang]), ("unseen", corpus.held_out_off[lang])):
            for question in rng.sample(questions, min(OFF_TOPIC_SAMPLES, len(questions))):
                report.compare(f"off_topic_{kind}_{lang}", question, chat.ask(question).text, refusal)


def check_free(chat: GreedyChat, corpus: Corpus, report: Report) -> None:
    for lang, topic_id, question in load_free_phrasings():
        report.compare(f"free_{lang}", question, chat.ask(question).text, corpus.answer(topic_id, lang))


def check_tools(chat: GreedyChat, report: Report) -> None:
    rng = Random(8)
    for lang in LANGS:
        for _ in range(2 * SAMPLES_PER_KIND):
            offered = rng.sample(sorted(TOOLS), rng.randrange(1, len(TOOLS) + 1))
            tool = TOOLS[rng.choice(offered)]
            schemas = [TOOLS[name].schema() for name in offered]
            messages: list[dict[str, Any]] = [user(rng.choice(tool.questions[lang]))]
            got = chat.answer(messages, schemas).text
            if not report.compare(f"tool_call_{lang}", messages[0]["content"], got, call_text(tool.name)):
                continue
            result = tool.sample(rng)
            messages += [tool_call(tool.name), tool_message(json.dumps(result))]
            got = chat.answer(messages, schemas).text
            report.compare(f"tool_answer_{lang}", json.dumps(result), got, tool.answer(result, lang))


def check_turns(chat: GreedyChat, corpus: Corpus, report: Report) -> None:
    """JSON answers, a repeated answer, the other language, and a prompt full of unrelated context."""
    rng = Random(4)
    for lang in LANGS:
        topic_ids = sorted(corpus.train[lang])
        for _ in range(SAMPLES_PER_KIND):
            topic_id = rng.choice(topic_ids)
            question, answer = rng.choice(corpus.train[lang][topic_id]), corpus.answer(topic_id, lang)
            request = rng.choice(JSON_REQUESTS[lang]).format(q=question)
            wanted = json.dumps({"answer": answer}, ensure_ascii=False)
            report.compare(f"json_{lang}", request, chat.ask(request).text, wanted)
            begun = [user(question), assistant(answer)]
            for kind, requests, wanted in (
                ("repeat", REPEAT_REQUESTS, answer),
                ("other_language", SWITCH_REQUESTS, corpus.answer(topic_id, other(lang))),
            ):
                request = rng.choice(requests[lang])
                report.compare(f"{kind}_{lang}", request, chat.answer([*begun, user(request)]).text, wanted)
            context = "\n".join(corpus.answer(rng.choice(topic_ids), lang) for _ in range(3))
            system = {"role": "system", "content": CONTEXT_PROMPT.format(context=context)}
            report.compare(f"context_{lang}", question, chat.answer([system, user(question)]).text, answer)


def check_long_history(chat: GreedyChat, corpus: Corpus, report: Report) -> None:
    rng = Random(5)
    for lang in LANGS:
        history: list[dict[str, str]] = []
        while True:
            topic_id = rng.choice(sorted(corpus.train[lang]))
            question, answer = rng.choice(corpus.train[lang][topic_id]), corpus.answer(topic_id, lang)
            messages = [*history, user(question)]
            if len(chat.tokens(chat.prompt(messages))) > LONG_HISTORY_TOKENS:
                break
            report.compare(f"long_history_{lang}", question, chat.answer(messages).text, answer)
            history = [*messages, assistant(answer)]


def check_tokens(chat: GreedyChat, report: Report) -> None:
    from appliance.demo.training import tokenizer

    ours, rng, corpus = tokenizer.load(), Random(5), Corpus(train_on_everything=True)
    texts = [*tokenizer.texts(), *STRESS_TEXTS]
    for lang in LANGS:
        for questions in corpus.train[lang].values():
            texts += questions
            texts += [noisy(question, lang, rng) for question in questions[:10]]
    different = [text for text in texts if ours.encode(text, add_special_tokens=False).ids != chat.tokens(text)]
    report.figures["tokenizer_texts"] = len(texts)
    report.figures["tokenizer_different"] = different


def check_logits(path: Path, checkpoint: Path, chat: GreedyChat, report: Report) -> None:
    """Compares with PyTorch, token by token, over the same conversations."""
    import llama_cpp
    import numpy as np
    import torch

    from appliance.demo.training.network import Config, Network

    saved = torch.load(checkpoint, weights_only=True)
    network = Network(Config(**saved["config"]))
    network.load_state_dict(saved["network"])
    sampler, worst, agreed, total = Sampler(Corpus(), seed=21), 0.0, 0, 0
    llama: Any = llama_cpp.Llama(str(path), n_ctx=CONTEXT_TOKENS, logits_all=True, n_gpu_layers=0, verbose=False)
    for index in range(8):
        ids = chat.tokens(prompt_text(sampler.conversation(long=index == 0)))[:1500]
        with torch.no_grad():
            wanted = network(torch.tensor([ids]))[0].numpy()
        llama.reset()
        llama.eval(ids)
        got = np.array(llama.scores[: len(ids)])
        worst = max(worst, float(np.abs(got - wanted).max()))
        agreed += int((got.argmax(1) == wanted.argmax(1)).sum())
        total += len(ids)
    llama.close()
    report.figures["logits_max_difference"] = round(worst, 4)
    report.figures["logits_same_best_token"] = f"{agreed}/{total}"


def check_speed(path: Path, report: Report) -> None:
    start = time.perf_counter()
    chat = GreedyChat(path)
    report.figures["load_seconds"] = round(time.perf_counter() - start, 3)
    ids = chat.tokens("What is mutual TLS? " * 200)[:1024]
    report.figures["prompt_tokens_per_second"] = round(len(ids) / seconds_of(lambda: chat.llama.eval(ids)))
    chat.llama.reset()
    chat.llama.eval(ids[:16])
    count = 400
    seconds = seconds_of(lambda: [chat.llama.eval([token]) for token in ids[:count]])
    report.figures["generated_tokens_per_second"] = round(count / seconds)
    chat.close()


def seconds_of(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def write_misses(path: Path, misses: Iterable[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(miss, ensure_ascii=False) + "\n" for miss in misses), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL_PATH)
    parser.add_argument("--limit", type=int, default=1500, help="questions per language")
    parser.add_argument("--held-out", action="store_true", help="the checkpoint was trained without --all")
    parser.add_argument("--checkpoint", type=Path, help="compare tokens and logits with this checkpoint")
    parser.add_argument("--misses", type=Path, default=Path("build/demo/misses.jsonl"))
    options = parser.parse_args()
    report = Report(figures={"model": options.model.name, "bytes": options.model.stat().st_size})
    chat, corpus = GreedyChat(options.model), Corpus(train_on_everything=not options.held_out)
    check_speed(options.model, report)
    check_template(chat, report)
    if options.checkpoint:
        check_tokens(chat, report)
        check_logits(options.model, options.checkpoint, chat, report)
    check_answers(chat, corpus, options.limit, report, held_out=options.held_out)
    check_free(chat, corpus, report)
    check_tools(chat, report)
    check_turns(chat, corpus, report)
    check_long_history(chat, corpus, report)
    chat.close()
    write_misses(options.misses, report.misses)
    print(json.dumps(report.to_dict(), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
