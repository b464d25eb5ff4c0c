"""ChatML: the chat template written into the GGUF file, and the same rendering for training.

`evaluate.py` proves that both give the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

Role = Literal["system", "user", "assistant"]
Conversation = Sequence[tuple[Role, str]]

END: Final = "<|im_end|>"
# ChatML with tools in the Qwen2.5/Hermes form. Tool results become user turns.
CHAT_TEMPLATE: Final = r"""
{%- if messages and messages[0].role == 'system' %}{%- set sys = messages[0].content %}{%- set rest = messages[1:] %}
{%- else %}{%- set sys = '' %}{%- set rest = messages %}{%- endif %}
{%- if tools %}
{{- '<|im_start|>system\n' + (sys or 'You are a helpful assistant.') }}
{{- '\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with ' }}
{{- 'function signatures within <tools></tools> XML tags:\n<tools>' }}
{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within ' }}
{{- '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": ' }}
{{- '<args-json-object>}\n</tool_call><|im_end|>\n' }}
{%- elif sys %}{{- '<|im_start|>system\n' + sys + '<|im_end|>\n' }}{%- endif %}
{%- for m in rest %}
{%- if m.role == 'tool' %}
{%- if loop.first or rest[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}
{%- if loop.last or rest[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
{%- elif m.role == 'assistant' and m.tool_calls %}
{{- '<|im_start|>assistant' }}{%- if m.content %}{{- '\n' + m.content }}{%- endif %}
{%- for c in m.tool_calls %}{%- set f = c.function if c.function else c %}
{{- '\n<tool_call>\n{"name": "' + f.name + '", "arguments": ' }}
{{- f.arguments if f.arguments is string else f.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\n' + (m.content or '') + '<|im_end|>\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}""".lstrip("\n")


def render(conversation: Conversation) -> list[tuple[str, bool]]:
    """The conversation in pieces: (text, trained). Only answers and their end token are trained."""
    pieces: list[tuple[str, bool]] = []
    head = ""
    for role, text in conversation:
        if role == "assistant":
            pieces.append((head + "<|im_start|>assistant\n", False))
            pieces.append((text + END, True))
            head = "\n"
        else:
            head += f"<|im_start|>{role}\n{text}{END}\n"
    return pieces


def prompt_text(conversation: Conversation) -> str:
    """What the model reads before it answers the last turn of the user."""
    pieces = render([*conversation, ("assistant", "")])
    return "".join(text for text, _ in pieces).removesuffix(END)
