"""What the actor answers with: a tool model's and a thinking model's answers, chosen by the prompt's last letter."""

from __future__ import annotations

from typing import Final

WEATHER: Final = '{"city": "Malmö", "days": [1, 2]}'
# Each is a letter that none of the texts has.
CALLS, THOUGHT, THOUGHT_AND_CALL, FORECAST, REACT = "Q", "X", "Z", "V", "K"
FORECAST_TEXT: Final = "21 degrees, and sunny."

PARTS: Final = {
    CALLS: (
        'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": '
        + WEATHER
        + '}\n</tool_call>\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    ),
    THOUGHT: "<think>\nThey greet, so I greet.\n</think>\n\nGood day to you.",
    THOUGHT_AND_CALL: (
        "<think>\nThis needs a clock.\n</think>\n\n"
        '<tool_call>\n{"name": "get_time", "arguments": {"zone": "UTC"}}\n</tool_call>'
    ),
    FORECAST: FORECAST_TEXT,
    REACT: "Thought: I look it up.\nAction: search\nObservation: none",
}
