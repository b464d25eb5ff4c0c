"""What Dify's OpenAI-API-compatible plugin makes of the SDK's classes, as far as the wire shows it.

Runs in the SDK's own Python, where our packages are not. The SDK makes the requests and reads the answers; here are
only the plugin's additions, written from what it sends: which parameters a model may have, what the form's fields turn
into, and how reasoning is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import dify_plugin
import openai
import requests
from dify_plugin.entities.model import DefaultParameterName, ParameterRule, ParameterType
from dify_plugin.entities.model.llm import LLMResult
from dify_plugin.entities.model.message import (
    AssistantPromptMessage,
    PromptMessageContentType,
    SystemPromptMessage,
    UserPromptMessage,
)
from dify_plugin.entities.model.rerank import RerankDocument, RerankResult
from dify_plugin.entities.model.text_embedding import EmbeddingUsage, TextEmbeddingResult
from dify_plugin.errors.model import CredentialsValidateFailedError, InvokeError, InvokeServerUnavailableError

JSON = dict[str, Any]

_THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_NEW_TOKEN_NAME = re.compile(r"^(o1|o3|gpt-5)", re.IGNORECASE)
_THINKS = ("supported", "only_thinking_supported")


class Llm(dify_plugin.OAICompatLargeLanguageModel):
    """guesses: how often the SDK counted tokens itself, because an answer came without usage."""

    guesses = 0

    def _get_num_tokens_by_gpt2(self, text: str) -> int:
        """The real one needs a download."""
        self.guesses += 1
        return len(text) // 4

    def validate_credentials(self, model: str, credentials: JSON) -> None:
        if _wants_completion_tokens(model, credentials):
            _validate_by_client(model, credentials)
            return
        try:
            super().validate_credentials(model, credentials)
        except CredentialsValidateFailedError as error:
            if not any(word in str(error) for word in ("budget_tokens", "thinking")):
                raise
            validate_without_thinking(model, credentials)

    def get_customizable_model_schema(self, model: str, credentials: JSON) -> Any:
        entity = super().get_customizable_model_schema(model, credentials)
        if credentials.get("structured_output_support") == "supported":
            entity.parameter_rules += [
                _choice("response_format", ["text", "json_object", "json_schema"]),
                ParameterRule(
                    name=DefaultParameterName.JSON_SCHEMA.value, use_template=DefaultParameterName.JSON_SCHEMA.value
                ),
            ]
        support = credentials.get("agent_thought_support")
        if support == "supported":
            entity.parameter_rules.append(_rule("enable_thinking", ParameterType.BOOLEAN))
        if support in _THINKS:
            entity.parameter_rules += [
                _choice("reasoning_format", ["none", "auto", "deepseek", "deepseek-legacy"]),
                _choice("reasoning_effort", ["low", "medium", "high"]),
            ]
        return entity

    def _invoke(
        self,
        model: str,
        credentials: JSON,
        prompt_messages: list[Any],
        model_parameters: JSON,
        tools: list[Any] | None = None,
        stop: list[str] | None = None,
        stream: bool = True,
        user: str | None = None,
    ) -> Any:
        if model_parameters.get("response_format") == "json_schema":
            _tell_of_schema(prompt_messages, model_parameters["json_schema"])
        thinks = _add_thinking(model_parameters, credentials)
        for message in prompt_messages:
            if isinstance(message, AssistantPromptMessage) and isinstance(message.content, str):
                message.content = _THOUGHT.sub("", message.content)
        if _wants_completion_tokens(model, credentials) and "max_tokens" in model_parameters:
            model_parameters["max_completion_tokens"] = model_parameters.pop("max_tokens")
        if credentials.get("user_identity_support") == "no_support":
            user = None
        if stream and credentials.get("stream_include_usage") != "disabled":
            model_parameters["stream_options"] = {"include_usage": True}
        result = super()._invoke(
            model, credentials, prompt_messages, model_parameters, tools, stop, stream=stream, user=user
        )
        if thinks is not False:
            return result
        return _without_thoughts(result) if stream else _without_thought(result)

    def _convert_prompt_message_to_dict(self, message: Any, credentials: JSON | None = None) -> JSON:
        if not (isinstance(message, UserPromptMessage) and isinstance(message.content, list)):
            converted: JSON = super()._convert_prompt_message_to_dict(message, credentials)
            return converted
        return {"role": "user", "content": [_part(content) for content in message.content]}

    def _wrap_thinking_by_reasoning_content(self, delta: JSON, is_reasoning: bool) -> tuple[str, bool]:
        reasoning = delta.get("reasoning") or delta.get("reasoning_content") or ""
        content = delta.get("content") or ""
        text = reasoning if is_reasoning or not reasoning else f"<think>\n{reasoning}"
        is_reasoning = is_reasoning or bool(reasoning)
        if is_reasoning and (content or not reasoning):
            return f"{text}\n</think>{content}", False
        return text + content, is_reasoning

    def _handle_generate_response(
        self, model: str, credentials: JSON, response: requests.Response, prompt_messages: list[Any]
    ) -> LLMResult:
        """The SDK's own, made to show what `reasoning_content` has."""
        result = super()._handle_generate_response(model, credentials, response, prompt_messages)
        message = response.json()["choices"][0].get("message") or {}
        reasoning = message.get("reasoning") or message.get("reasoning_content")
        content = result.message.content or ""
        if reasoning and not content.startswith("<think>"):
            content = f"<think>\n{reasoning}\n</think>{content}"
        result.message.content = content
        return result


class Embedding(dify_plugin.OAICompatEmbeddingModel):
    """One text a request, whatever the form says of chunks; an image goes another way."""

    def _invoke(
        self, model: str, credentials: JSON, texts: list[str], user: str | None = None, input_type: Any = None
    ) -> TextEmbeddingResult:
        vectors: list[list[float]] = []
        tokens = 0
        try:
            size = self._get_max_chunks(model, credentials)
            for first in range(0, len(texts), size):
                answer = self._embed(model, credentials, texts[first : first + size])
                vectors += [entry["embedding"] for entry in answer["data"]]
                usage = answer.get("usage") or {}
                tokens += usage.get("prompt_tokens") or usage.get("total_tokens") or 0
        except requests.exceptions.RequestException as error:
            raise InvokeServerUnavailableError(str(error)) from error
        except Exception as error:
            raise InvokeError(str(error)) from error
        price = {"unit_price": 0, "price_unit": 0, "total_price": 0, "currency": "USD"}
        usage = EmbeddingUsage(tokens=tokens, total_tokens=tokens, latency=0.0, **price)
        return TextEmbeddingResult(embeddings=vectors, model=model, usage=usage)

    def _embed(self, model: str, credentials: JSON, texts: list[str]) -> JSON:
        if any(text.startswith("Image:") for text in texts):
            return _embed_image(model, credentials, texts[0].removeprefix("Image:"))
        body: JSON = {"model": model, "input": texts}
        if credentials.get("encoding_format"):
            body["encoding_format"] = credentials["encoding_format"]
        return _post("embeddings", body, credentials)


class Rerank(dify_plugin.OAICompatRerankModel):
    """Scores as they come, against the threshold."""

    def validate_credentials(self, model: str, credentials: JSON) -> None:
        documents = [
            "Carson City is the capital of the American state of Nevada.",
            "The capital of the Northern Mariana Islands is Saipan.",
            "Washington, D.C. is the capital of the United States.",
        ]
        question = "What is the capital of the United States?"
        try:
            self._invoke(model, credentials, question, documents, score_threshold=0.8, top_n=3)
        except Exception as error:
            raise CredentialsValidateFailedError(str(error)) from error

    def _invoke(
        self,
        model: str,
        credentials: JSON,
        query: str,
        docs: list[str],
        score_threshold: float | None = None,
        top_n: int | None = None,
        user: str | None = None,
    ) -> RerankResult:
        if not docs:
            return RerankResult(model=model, docs=[])
        body = {"model": model, "query": query, "documents": docs, "top_n": len(docs) if top_n is None else top_n}
        try:
            results = _post("rerank", body, credentials).get("results", [])
        except requests.exceptions.RequestException as error:
            raise InvokeServerUnavailableError(str(error)) from error
        found = [
            RerankDocument(index=result["index"], score=result["relevance_score"], text=docs[result["index"]])
            for result in results
        ]
        found.sort(key=lambda document: document.score, reverse=True)
        kept = [document for document in found if score_threshold is None or document.score >= score_threshold]
        return RerankResult(model=model, docs=kept)


def validate_without_thinking(model: str, credentials: JSON) -> None:
    """What validation tries again where an answer's error speaks of thinking."""
    body: JSON = {
        "model": model,
        "max_tokens": 5,
        "thinking": {"type": "disabled"},
        "messages": [{"role": "user", "content": "ping"}],
    }
    headers = {"Authorization": f"Bearer {credentials['api_key']}"}
    url = f"{credentials['endpoint_url'].rstrip('/')}/chat/completions"
    response = requests.post(url, headers=headers, json=body, timeout=(10, 300))
    if response.status_code != 200:
        raise CredentialsValidateFailedError(f"{response.status_code}: {response.text}")


def _validate_by_client(model: str, credentials: JSON) -> None:
    with _client(credentials) as client:
        try:
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "ping"}], max_completion_tokens=16, stream=False
            )
        except Exception as error:
            raise CredentialsValidateFailedError(str(error)) from error


def _client(credentials: JSON) -> openai.OpenAI:
    return openai.OpenAI(api_key=credentials.get("api_key"), base_url=credentials["endpoint_url"])


def _embed_image(model: str, credentials: JSON, url: str) -> JSON:
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Represent the user's input."}]},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": ""}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": ""}]},
        ],
        "encoding_format": "float",
        "continue_final_message": True,
        "add_special_tokens": True,
    }
    with _client(credentials) as client:
        return client.post("/embeddings", cast_to=dict[str, Any], body=body)


def _post(path: str, body: JSON, credentials: JSON) -> JSON:
    """Embeddings and rerank: an empty header where there is no key, and silence of 60 s at most."""
    key = credentials.get("api_key")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}" if key else ""}
    url = f"{credentials['endpoint_url'].rstrip('/')}/{path}"
    response = requests.post(url, headers=headers, json=body, timeout=60)
    response.raise_for_status()
    answer: JSON = response.json()
    return answer


def _wants_completion_tokens(model: str, credentials: JSON) -> bool:
    name = credentials.get("token_param_name", "auto")
    return name == "max_completion_tokens" or (name == "auto" and _NEW_TOKEN_NAME.match(model) is not None)


def _rule(name: str, kind: ParameterType, **more: Any) -> ParameterRule:
    return ParameterRule(name=name, label={"en_US": name}, type=kind, required=False, **more)


def _choice(name: str, options: list[str]) -> ParameterRule:
    return _rule(name, ParameterType.STRING, options=options)


def _tell_of_schema(messages: list[Any], schema: str) -> None:
    told = f"Answer with a JSON object that this schema allows, and nothing else.\n```json\n{schema}\n```"
    for message in messages:
        if isinstance(message, SystemPromptMessage):
            message.content = f"{told}\n\n{message.content}"
            return
    messages.insert(0, SystemPromptMessage(content=told))


def _add_thinking(parameters: JSON, credentials: JSON) -> bool | None:
    """What the form says of thinking, in all the fields that some server knows. None: nothing is said."""
    support = credentials.get("agent_thought_support", "not_supported")
    chosen: bool | None = parameters.pop("enable_thinking", None)
    thinks = chosen if support == "supported" else support == "only_thinking_supported"
    reasoning_format, effort = parameters.pop("reasoning_format", None), parameters.pop("reasoning_effort", None)
    extended = credentials.get("compatibility_mode") == "extended"
    if extended and thinks is not None:
        parameters["chat_template_kwargs"] = {"enable_thinking": thinks, "thinking": thinks}
        parameters["thinking"] = {"type": "enabled" if thinks else "disabled"}
        parameters["enable_thinking"] = thinks
    if extended and reasoning_format is not None:
        parameters["reasoning_format"] = reasoning_format
    if thinks and effort is not None:
        parameters["reasoning_effort"] = effort
        if extended:
            parameters["chat_template_kwargs"]["reasoning_effort"] = effort
    return thinks


def _part(content: Any) -> JSON:
    match content.type:
        case PromptMessageContentType.TEXT:
            return {"type": "text", "text": content.data}
        case PromptMessageContentType.IMAGE:
            return {"type": "image_url", "image_url": {"url": content.data, "detail": content.detail.value}}
        case PromptMessageContentType.DOCUMENT:
            return {"type": "file", "file": {"file_data": content.data, "filename": "document"}}
    return {"type": "image_url", "image_url": {"url": content.data}}


def _without_thought(result: LLMResult) -> LLMResult:
    if isinstance(result.message.content, str):
        result.message.content = _THOUGHT.sub("", result.message.content)
    return result


def _without_thoughts(chunks: Iterator[Any]) -> Iterator[Any]:
    """Drops a thought that the answer begins with."""
    held = ""
    thinking = False
    for chunk in chunks:
        text = chunk.delta.message.content
        if not text:
            yield chunk
            continue
        held += text
        thinking = thinking or held.startswith("<think>")
        if thinking and "</think>" in held:
            thinking = False
            chunk.delta.message.content = held.partition("</think>")[2].lstrip()
            held = ""
            if chunk.delta.message.content:
                yield chunk
        elif not thinking:
            held = ""
            yield chunk
