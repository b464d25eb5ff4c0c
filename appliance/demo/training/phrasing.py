"""Ways to ask: templates around a noun or a task, polite words, typing errors, system prompts.

Pure: randomness comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal

Lang = Literal["en", "zh"]
LANGS: tuple[Lang, Lang] = ("en", "zh")


def other(lang: Lang) -> Lang:
    return "zh" if lang == "en" else "en"


def split_variants(text: str) -> tuple[str, ...]:
    """The phrases between the bars, without the spaces around them."""
    return tuple(part.strip() for part in text.split("|") if part.strip())


# {x} is a noun phrase.
NOUN_TEMPLATES: Mapping[Lang, tuple[str, ...]] = {
    "en": split_variants(
        "what is {x}|what's {x}|explain {x}|tell me about {x}|what does {x} mean|{x}|can you explain {x}"
        "|define {x}|give me a short explanation of {x}|I don't understand {x}|describe {x}|how does {x} work"
        "|what is {x} good for|what is {x} used for|what exactly is {x}|what does {x} do"
        "|what is the meaning of {x}|what is the point of {x}|can you tell me what {x} is"
        "|could you explain what {x} means|I would like to know more about {x}|please describe {x} briefly"
        "|what do I need {x} for|what is meant by {x}|info about {x}"
    ),
    "zh": split_variants(
        "什么是{x}|{x}是什么|解释一下{x}|介绍一下{x}|{x}是什么意思|说明一下{x}|讲讲{x}|{x}|我不明白{x}|给我讲一下{x}"
        "|{x}有什么用|{x}的作用是什么|{x}是怎么回事|{x}是干什么用的|什么叫{x}|{x}是怎么工作的|{x}的含义"
        "|简单说说{x}|我想了解{x}|{x}有什么好处|{x}的原理是什么|关于{x}"
    ),
}
# {x} is a task in the infinitive.
TASK_TEMPLATES: Mapping[Lang, tuple[str, ...]] = {
    "en": split_variants(
        "how do I {x}|how can I {x}|how to {x}|what are the steps to {x}|I want to {x}|I need to {x}|help me {x}"
        "|show me how to {x}|is there a way to {x}|{x}|tell me how to {x}|can I {x}|please {x}"
        "|what do I have to do to {x}|what is the procedure to {x}|I would like to {x}|is it possible to {x}"
        "|explain how to {x}|I have to {x}, how|what is the best way to {x}"
    ),
    "zh": split_variants(
        "如何{x}|怎么{x}|怎样{x}|我想{x}|我要{x}，怎么做|{x}的步骤是什么|请教我{x}|{x}要怎么操作|能帮我{x}吗"
        "|怎么样{x}|帮我{x}|{x}|{x}的方法|{x}怎么做|我需要{x}|可以{x}吗|告诉我如何{x}|应该怎么{x}"
    ),
}
PREFIXES: Mapping[Lang, tuple[str, ...]] = {
    "en": (
        "please tell me: ",
        "hi, ",
        "Hello, ",
        "Hello! ",
        "hey, ",
        "quick question: ",
        "I have a question: ",
        "sorry, ",
        "so ",
        "ok, ",
        "please, ",
        "question: ",
        "hi! ",
    ),
    "zh": (
        "请问",
        "你好，",
        "请告诉我，",
        "麻烦问一下，",
        "我想知道",
        "您好，请问",
        "那么",
        "请问一下，",
        "你好！",
        "请",
    ),
}
SUFFIXES: Mapping[Lang, tuple[str, ...]] = {
    "en": (" please", ", please", " thanks", ", thank you", " now", " here", " exactly"),
    "zh": ("呢", "呀", "，谢谢", "啊", "，谢谢你", "吗"),
}
SYSTEM_PROMPTS: tuple[str, ...] = (
    "You are a helpful assistant.",
    "You are a helpful assistant of the appliance.",
    "Answer briefly.",
    "You are a friendly support agent. Answer the question of the user.",
    "You are a helpful AI assistant.",
    "Be concise and polite.",
    "你是一个有用的助手。",
    "请简短回答。",
    "你是本设备的客服，请回答用户的问题。",
    "你是一个智能助手。",
)
# The wording of Dify's own prompt for a knowledge base.
CONTEXT_PROMPT = (
    "Use the following context as your learned knowledge, inside <context></context> XML tags.\n\n<context>\n"
    "{context}\n</context>\n\nWhen answer to user:\n- If you don't know, just say that you don't know.\n"
    "- If you don't know when you are not sure, ask for clarification.\nAvoid mentioning that you obtained "
    "the information from the context.\nAnd answer according to the language of the user's question."
)
JSON_REQUESTS: Mapping[Lang, tuple[str, ...]] = {
    "en": (
        "{q} Answer as JSON.",
        "{q} Reply in JSON.",
        "Answer as JSON: {q}",
        "{q} Output JSON only.",
        "{q} Give the answer as a JSON object.",
        "Return JSON with the key answer. {q}",
    ),
    "zh": (
        "{q} 用 JSON 回答。",
        "请用 JSON 回答：{q}",
        "{q} 请以 JSON 格式输出。",
        "{q} 只输出 JSON。",
        "用JSON格式回答：{q}",
    ),
}
JSON_SYSTEM_PROMPTS: tuple[str, ...] = (
    "Answer as JSON.",
    "Always answer as a JSON object with the key answer.",
    "请用 JSON 回答。",
)
REPEAT_REQUESTS: Mapping[Lang, tuple[str, ...]] = {
    "en": ("repeat that", "say that again", "can you repeat that?", "once more please", "again please"),
    "zh": ("再说一遍", "请重复一遍", "能再说一次吗？", "重复一下", "没听清，再说一次"),
}
# In `lang`, ask for the last answer in the other language.
SWITCH_REQUESTS: Mapping[Lang, tuple[str, ...]] = {
    "en": ("in Chinese please", "and in Chinese?", "say it in Chinese", "用中文说", "请用中文回答"),
    "zh": ("请用英文回答", "用英文说", "英文呢？", "in English please", "say it in English"),
}


def noisy(question: str, lang: Lang, rng: Random) -> str:
    """The question as a hurried person types it: casing, punctuation, polite words, at most one slip."""
    bare = question.rstrip("?？.。 ")
    return _noisy_english(bare, rng) if lang == "en" else _noisy_chinese(bare, rng)


def _noisy_english(text: str, rng: Random) -> str:
    if rng.random() < 0.18:
        text = rng.choice(PREFIXES["en"]) + text
    if rng.random() < 0.10:
        text += rng.choice(SUFFIXES["en"])
    if rng.random() < 0.12 and len(text) > 12:
        at = rng.randrange(3, len(text) - 2)
        dropped = text[:at] + text[at + 1 :]
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        doubled = text[:at] + text[at] + text[at:]
        text = rng.choice([dropped, swapped, doubled])
    casing = rng.random()
    if casing < 0.35:
        text = text.lower()
    elif casing < 0.75:
        text = text[:1].upper() + text[1:]
    elif casing < 0.77:
        text = text.upper()
    return text + rng.choice(["?", "?", "?", "", "", ".", "??", " ?", "!"])


def _noisy_chinese(text: str, rng: Random) -> str:
    if rng.random() < 0.22:
        text = rng.choice(PREFIXES["zh"]) + text
    if rng.random() < 0.10:
        text += rng.choice(SUFFIXES["zh"])
    if rng.random() < 0.15:
        text = text.replace(" ", "")
    if rng.random() < 0.06 and len(text) > 7:
        at = rng.randrange(2, len(text) - 1)
        text = text[:at] + text[at + 1 :]
    return text + rng.choice(["？", "？", "？", "", "", "。", "?", "！"])
