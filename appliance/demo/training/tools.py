"""The tools the demo model can call. None takes an argument: a network this small does not learn to copy words.

Pure: randomness comes in as an argument.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from appliance.demo.training.phrasing import Lang

Result = Mapping[str, int | str]
NO_TOOL: Mapping[Lang, str] = {"en": "I have no tool for that.", "zh": "我没有可以做这件事的工具。"}


@dataclass(frozen=True, slots=True)
class Tool:
    """`sample` invents a result; `answers` are format strings over its fields."""

    name: str
    description: str
    questions: Mapping[Lang, tuple[str, ...]]
    answers: Mapping[Lang, str]
    sample: Callable[[Random], Result]

    def schema(self) -> dict[str, Any]:
        """The tool as a client sends it to the chat API."""
        parameters = {"type": "object", "properties": {}, "required": []}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}

    def answer(self, result: Result, lang: Lang) -> str:
        return self.answers[lang].format(**result)


def _gpu_memory(rng: Random) -> Result:
    total = rng.choice([8, 12, 16, 24, 32, 48, 80])
    used = rng.randrange(1, total)
    return {"total_gb": total, "used_gb": used, "free_gb": total - used}


def _time(rng: Random) -> Result:
    return {"time": f"{rng.randrange(24):02d}:{rng.randrange(60):02d}"}


def _queue(rng: Random) -> Result:
    return {"running": rng.randrange(100), "waiting": rng.randrange(100)}


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            name="get_gpu_memory",
            description="Get the GPU memory of the appliance",
            questions={
                "en": (
                    "how much GPU memory is free",
                    "how much VRAM do we have left",
                    "check the GPU memory",
                    "show the current GPU memory",
                    "what is the GPU memory usage now",
                    "how full is the GPU",
                    "use the tool to check the VRAM",
                    "is there enough GPU memory",
                    "get the GPU memory",
                ),
                "zh": (
                    "现在还有多少显存",
                    "显存用了多少",
                    "查一下显存",
                    "查询显卡内存",
                    "看看显存使用情况",
                    "显存还剩多少",
                    "用工具查看显存",
                    "获取显存",
                ),
            },
            answers={
                "en": "The GPU has {total_gb} GB of memory. {used_gb} GB are used and {free_gb} GB are free.",
                "zh": "显卡共有 {total_gb} GB 显存，已用 {used_gb} GB，空闲 {free_gb} GB。",
            },
            sample=_gpu_memory,
        ),
        Tool(
            name="get_time",
            description="Get the current time",
            questions={
                "en": (
                    "what time is it",
                    "tell me the time",
                    "what is the current time",
                    "check the time",
                    "get the time",
                ),
                "zh": ("现在几点", "几点了", "告诉我时间", "查一下时间", "当前时间是多少"),
            },
            answers={"en": "It is {time}.", "zh": "现在是 {time}。"},
            sample=_time,
        ),
        Tool(
            name="get_queue",
            description="Get the number of running and waiting requests",
            questions={
                "en": (
                    "how many requests are running now",
                    "how many requests are waiting now",
                    "check the request queue",
                    "how long is the queue now",
                    "is the appliance busy now",
                    "get the queue",
                ),
                "zh": (
                    "现在有多少请求在运行",
                    "现在有多少请求在等待",
                    "查一下请求队列",
                    "现在队列有多长",
                    "设备现在忙吗",
                    "获取队列",
                ),
            },
            answers={
                "en": "Running requests: {running}. Waiting requests: {waiting}.",
                "zh": "正在运行的请求：{running}，等待中的请求：{waiting}。",
            },
            sample=_queue,
        ),
    )
}

_TOOLS_HEAD = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
    "function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": '
    "<args-json-object>}\n</tool_call>"
)


def tool_prompt(names: Sequence[str], *, sort_keys: bool = False) -> str:
    """The tools part of the system prompt, exactly as the chat template renders it.

    Template engines differ in the order of JSON keys, so training sees both.
    """
    lines = [json.dumps(TOOLS[name].schema(), sort_keys=sort_keys) for name in names]
    return _TOOLS_HEAD + "\n".join(lines) + _TOOLS_TAIL


def call_text(name: str) -> str:
    """A call in the Hermes form."""
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": {}}) + "\n</tool_call>"


def response_text(result: Result) -> str:
    return f"<tool_response>\n{json.dumps(result)}\n</tool_response>"
