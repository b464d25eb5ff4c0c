"""What models of each format write, and what it means."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from appliance.chat import Call, Content, Part, Reasoning, Tools
from appliance.types import AnswerFormat, ReasoningFormat, ToolFormat

WEATHER: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "options": {"type": "object"},
                "hot": {"type": "boolean"},
            },
        },
    },
}
NOW: Final[dict[str, Any]] = {"type": "function", "function": {"name": "now"}}
TOOLS: Final = Tools([WEATHER, NOW])


class Recording(NamedTuple):
    """text: what the model writes. parts: what it means."""

    name: str
    tools: ToolFormat
    reasoning: ReasoningFormat
    text: str
    parts: list[Part]
    thinking: bool = False

    @property
    def answer(self) -> AnswerFormat:
        return AnswerFormat(tools=self.tools, reasoning=self.reasoning, thinking=self.thinking)


def _weather(arguments: str) -> Call:
    return Call("get_weather", arguments)


_NOW: Final = Call("now", "{}")
# Braces, quotes and this format's own end, all inside of a string.
_TRICKY: Final = '{"city": "}]\\" </tool_call> 北京 🌧", "options": {"a": [1, {"b": "{"}]}}'

RECORDINGS: Final = [
    Recording("plain", "hermes", "think", "Hello < there > [x] {y}", [Content("Hello < there > [x] {y}")]),
    Recording(
        "hermes, two calls after a thought",
        "hermes",
        "think",
        "<think>\nThe user wants </thing.\n</think>\n\nLet me see.\n\n"
        f'<tool_call>\n{{"name": "get_weather", "arguments": {_TRICKY}}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n',
        [Reasoning("The user wants </thing."), Content("Let me see."), _weather(_TRICKY), _NOW],
    ),
    Recording(
        "hermes, arguments as a text and none at all",
        "hermes",
        "none",
        '<tool_call>{"name": "get_weather", "arguments": "{\\"days\\": 2}"}</tool_call>\n'
        '<tool_call>{"name": "now"}</tool_call>',
        [_weather('{"days": 2}'), _NOW],
    ),
    Recording(
        "hermes, text after the call",
        "hermes",
        "none",
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n\nDone.',
        [_NOW, Content("Done.")],
    ),
    Recording(
        "hermes, the marker in prose",
        "hermes",
        "none",
        'Write <tool_call> first. <tool_call>{"name": "now"}</tool_call>',
        [Content("Write "), Content("<tool_call>", True), Content(" first."), _NOW],
    ),
    Recording(
        "hermes, an unknown tool",
        "hermes",
        "none",
        '<tool_call>\n{"name": "nope", "arguments": {}}\n</tool_call>',
        [Content('<tool_call>\n{"name": "nope", "arguments": {}}', True), Content("\n</tool_call>")],
    ),
    Recording(
        "qwen3-coder",
        "qwen3_coder",
        "think",
        'I will look.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nNew\nYork "}\n</parameter>\n'
        '<parameter=days>\n3\n</parameter>\n<parameter=options>\n{"a": [1, "}"]}\n</parameter>\n'
        "<parameter=hot>\nTrue\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
        [
            Content("I will look."),
            _weather('{"city": "New\\nYork \\"}", "days": 3, "options": {"a": [1, "}"]}, "hot": true}'),
            _NOW,
        ],
    ),
    Recording(
        "seed-oss",
        "qwen3_coder",
        "seed",
        "<seed:think>hm</seed:think>\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>Rome</parameter>\n"
        "</function>\n</seed:tool_call>",
        [Reasoning("hm"), _weather('{"city": "Rome"}')],
    ),
    Recording(
        "glm",
        "glm",
        "think",
        "\n<think>a</think>\nb\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome <3</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
        [Reasoning("a"), Content("b"), _weather('{"city": "Rome <3", "days": 2}'), _NOW],
    ),
    Recording(
        "llama 3, bare",
        "llama3",
        "none",
        '{"name": "get_weather", "parameters": {"city": "x"}}; {"name": "now", "parameters": {}}',
        [_weather('{"city": "x"}'), _NOW],
    ),
    Recording(
        "llama 3, python tag",
        "llama3",
        "none",
        '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {"days": 1}}',
        [_weather('{"days": 1}')],
    ),
    Recording(
        "llama 3, function tag",
        "llama3",
        "none",
        '<function=get_weather>{"city": "x"}</function>',
        [_weather('{"city": "x"}')],
    ),
    Recording(
        "llama 3, an answer in JSON",
        "llama3",
        "none",
        '{"name": "Ada", "born": 1815}',
        [Content('{"name": "Ada", "born": 1815}')],
    ),
    Recording(
        "pythonic, bare",
        "pythonic",
        "none",
        "[get_weather(city='it\\'s \"x\"]', days=-2, options={'a': [True, None, 1.5e3]}), now()]",
        [_weather('{"city": "it\'s \\"x\\"]", "days": -2, "options": {"a": [true, null, 1500.0]}}'), _NOW],
    ),
    Recording(
        "lfm2",
        "pythonic",
        "think",
        '<|tool_call_start|>[get_weather(city="x")]<|tool_call_end|>Wait a moment.',
        [_weather('{"city": "x"}'), Content("Wait a moment.")],
    ),
    Recording(
        "mistral, old",
        "mistral",
        "none",
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "]"}, "id": "abcdefghi"}, '
        '{"name": "now", "arguments": {}}]',
        [_weather('{"city": "]"}'), _NOW],
    ),
    Recording(
        "mistral, new",
        "mistral",
        "mistral",
        '[THINK]why[/THINK]Yes[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "x"}[TOOL_CALLS]now[ARGS]{}',
        [Reasoning("why"), Content("Yes"), _weather('{"city": "x"}'), _NOW],
    ),
    Recording(
        "deepseek r1",
        "deepseek",
        "think",
        "Okay, so\n</think>\n\nLooking.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        '```json\n{"city": "x"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n'
        "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [Reasoning("Okay, so"), Content("Looking."), _weather('{"city": "x"}'), _NOW],
        True,
    ),
    Recording(
        "deepseek v3.1",
        "deepseek",
        "think",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "x"}<｜tool▁call▁end｜>'
        "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [_weather('{"city": "x"}'), _NOW],
    ),
    Recording(
        "deepseek, a call ends the thought",
        "deepseek",
        "think",
        "thinking<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [Reasoning("thinking"), _NOW],
        True,
    ),
    Recording(
        "deepseek v3.2",
        "deepseek_dsml",
        "think",
        'Yes.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">x</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
        '<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
        [Content("Yes."), _weather('{"city": "x", "days": 2}'), _NOW],
    ),
    Recording(
        "kimi",
        "kimi",
        "think",
        "Hm.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "x"}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}'
        "<|tool_call_end|><|tool_calls_section_end|>",
        [Content("Hm."), _weather('{"city": "x"}'), _NOW],
    ),
    Recording(
        "minimax",
        "minimax",
        "think",
        "a</think>\n\n<minimax:tool_call>\n"
        '<invoke name="get_weather">\n<parameter name="city">x</parameter>\n<parameter name="hot">false</parameter>\n'
        '</invoke>\n<invoke name="now">\n</invoke>\n</minimax:tool_call>',
        [Reasoning("a"), _weather('{"city": "x", "hot": false}'), _NOW],
        True,
    ),
    Recording(
        "gemma",
        "gemma",
        "gemma",
        "<|channel>thought\nhm\n<channel|>"
        '<|tool_call>call:get_weather{city:<|"|>x, }"y<|"|>,days:3,options:{a:[1,true,<|"|>z<|"|>]}}<tool_call|>'
        "<|tool_call>call:now{}<tool_call|>",
        [Reasoning("hm"), _weather('{"city": "x, }\\"y", "days": 3, "options": {"a": [1, true, "z"]}}'), _NOW],
    ),
    Recording(
        "nemotron",
        "json_list",
        "think",
        '<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "x"}}, {"name": "now", "arguments": {}}]</TOOLCALL>',
        [_weather('{"city": "x"}'), _NOW],
    ),
    Recording(
        "command r",
        "json_list",
        "command_r",
        "<|START_THINKING|>I look.<|END_THINKING|><|START_ACTION|>[\n"
        '    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "x"}}\n]<|END_ACTION|>',
        [Reasoning("I look."), _weather('{"city": "x"}')],
    ),
    Recording(
        "apertus",
        "json_list",
        "apertus",
        '<|tools_prefix|>[{"get_weather": {"city": "x"}}, {"now": {}}]<|tools_suffix|>',
        [_weather('{"city": "x"}'), _NOW],
    ),
    Recording(
        "granite",
        "json_list",
        "think",
        '<|tool_call|>[{"name": "now", "arguments": {}}]',
        [_NOW],
    ),
    Recording(
        "generic, in a fence",
        "generic",
        "think",
        '```json\n{"name": "now", "arguments": {}}\n```',
        [_NOW],
    ),
    Recording(
        "gpt-oss, a call",
        "harmony",
        "harmony",
        "<|channel|>analysis<|message|>We need it.<|end|><|start|>assistant<|channel|>commentary<|message|>Moment."
        "<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        '{"city": "x"}<|call|>',
        [Reasoning("We need it."), Content("Moment."), _weather('{"city": "x"}')],
    ),
    Recording(
        "gpt-oss, the recipient first",
        "harmony",
        "harmony",
        " to=functions.now<|channel|>commentary json<|message|>{}",
        [_NOW],
    ),
    Recording(
        "gpt-oss, an answer",
        "harmony",
        "harmony",
        "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>analysis<|message|>Two.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Hello <b>.",
        [Reasoning("One.\nTwo."), Content("Hello <b>.")],
    ),
]
