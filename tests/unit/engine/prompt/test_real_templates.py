"""The chat templates in llama.cpp's source archive, which are those of the models: each takes every conversation."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.chat import reasoning_format_of, tool_format_of
from appliance.engine.prompt.template import ChatTemplate
from appliance.errors import RequestError
from appliance.types import ChatMessage, ChatPrompt, ReasoningFormat, ToolCall, ToolFormat, ToolFunction
from bench.source_archive import BUILD

_ROOT: Final = Path(__file__).resolve().parents[4] / BUILD / "src"
FOLDER: Final = _ROOT / f"llama_cpp_python-{metadata.version('llama-cpp-python')}/vendor/llama.cpp/models/templates"
TEMPLATES: Final = sorted(FOLDER.glob("*.jinja"))

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="`make bench` unpacks llama.cpp's sources; they are not here")

FORMATS: Final[dict[str, tuple[ToolFormat, ReasoningFormat]]] = {
    "Apertus-8B-Instruct": ("json_list", "apertus"),
    "ByteDance-Seed-OSS": ("qwen3_coder", "seed"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("json_list", "command_r"),
    "GLM-4.6": ("glm", "think"),
    "HuggingFaceTB-SmolLM3-3B": ("generic", "think"),
    "Kimi-K2-Instruct": ("kimi", "think"),
    "LFM2.5-8B-A1B": ("pythonic", "think"),
    "MiniMax-M2": ("minimax", "think"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral", "think"),
    "NVIDIA-Nemotron-Nano-v2": ("json_list", "think"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("hermes", "think"),
    "Qwen-QwQ-32B": ("hermes", "think"),
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", "think"),
    "Qwen-Qwen3-0.6B": ("hermes", "think"),
    "Qwen3-Coder": ("qwen3_coder", "think"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("deepseek", "think"),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek", "think"),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek_dsml", "think"),
    "google-gemma-2-2b-it": ("generic", "think"),
    "google-gemma-4-31B-it": ("gemma", "gemma"),
    "ibm-granite-granite-3.3-2B-Instruct": ("json_list", "think"),
    "ibm-granite-granite-4.0": ("hermes", "think"),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama3", "think"),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama3", "think"),
    "meta-llama-Llama-3.3-70B-Instruct": ("llama3", "think"),
    "microsoft-Phi-3.5-mini-instruct": ("generic", "think"),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("mistral", "mistral"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral", "think"),
    "openai-gpt-oss-120b": ("harmony", "harmony"),
}
# It wants a variable that nobody else has.
UNUSABLE: Final = frozenset({"fireworks-ai-llama-3-firefunction-v2"})
# Mistral's show these only with the last user turn.
WITH_USER: Final = frozenset({"zqtoolx", "zqalonex"})
# They leave out what an assistant says beside a call, and do not take two turns for it.
SILENT: Final = frozenset({"Mistral-Small-3.2-24B-Instruct-2506", "mistralai-Mistral-Nemo-Instruct-2407"})

SYSTEM = ChatMessage(role="system", content="zqsystemx")
USER, ANSWER = ChatMessage(role="user", content="zquserx"), ChatMessage(role="assistant", content="zqanswerx")
CALLS = tuple(
    ToolCall(id=f"call_{name}", function=ToolFunction(name="get_weather", arguments=f'{{"city": "{name}"}}'))
    for name in ("zqromex", "zqoslox")
)
RESULTS = tuple(
    ChatMessage(role="tool", content=f"zqresult{number}x", tool_call_id=call.id) for number, call in enumerate(CALLS)
)
TOOLS: Final[tuple[dict[str, Any], ...]] = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "zqtoolx",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "a city"}}},
        },
    },
)
CONVERSATIONS: Final[dict[str, tuple[ChatMessage, ...]]] = {
    "system": (SYSTEM, USER),
    "a call": (USER, ChatMessage(role="assistant", tool_calls=CALLS[:1]), RESULTS[0]),
    "two calls": (USER, ChatMessage(role="assistant", tool_calls=CALLS), *RESULTS, ANSWER, USER),
    "text and a call": (USER, ChatMessage(role="assistant", content="zqbesidex", tool_calls=CALLS[:1]), RESULTS[0]),
    "two users": (USER, ChatMessage(role="user", content="zqsecondx")),
    "system in the middle": (USER, ANSWER, SYSTEM, USER),
    "the assistant first": (ANSWER, USER),
    "the assistant last": (USER, ANSWER),
    "no user": (ChatMessage(role="system", content="zqalonex"),),
    "a result without a call": (USER, RESULTS[0], USER),
}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_conversation_is_shown(path: Path) -> None:
    source = path.read_text()
    if path.stem in UNUSABLE:
        pytest.skip("it wants a variable that nobody else has")
    template = ChatTemplate(source, bos="<s>", eos="</s>", seconds_max=5, tools=tool_format_of(source))
    for name, messages in CONVERSATIONS.items():
        for tools in ((), TOOLS):
            prompt = ChatPrompt(messages=messages, tools=tools)
            try:
                text = template.render(prompt)
            except RequestError as error:
                pytest.fail(f"{name}: {error}")
            words = {part for part in str(prompt).replace("'", '"').split('"') if part.startswith("zq")}
            lost = {word for word in words if word not in text}
            lost -= WITH_USER if name == "no user" else frozenset()
            lost -= {"zqbesidex"} if path.stem in SILENT else frozenset()
            assert not lost, name


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_formats(path: Path) -> None:
    source = path.read_text()
    if path.stem in FORMATS:
        assert (tool_format_of(source), reasoning_format_of(source)) == FORMATS[path.stem]
