"""What a model's text means: reasoning, content, calls of tools. Pure: no clock, no I/O, no randomness."""

from appliance.chat.detect import closing_text, markers_in, opens_reasoning, reasoning_format_of, tool_format_of
from appliance.chat.parser import AnswerParser, answer_parser, parts_of
from appliance.chat.parts import Call, Content, Part, Reasoning, joined
from appliance.chat.tools import Tools

__all__ = [
    "AnswerParser",
    "Call",
    "Content",
    "Part",
    "Reasoning",
    "Tools",
    "answer_parser",
    "closing_text",
    "joined",
    "markers_in",
    "opens_reasoning",
    "parts_of",
    "reasoning_format_of",
    "tool_format_of",
]
