"""Turns the prompt of a request into tokens and checks that they can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

from msgspec.structs import replace

from appliance.engine.prompt.answers import Answers
from appliance.engine.prompt.shortening import without_oldest
from appliance.engine.prompt.template import ChatTemplate
from appliance.errors import RequestError
from appliance.types import (
    AS_PROMPT,
    AnswerFormat,
    CallChoice,
    ChatPrompt,
    Constraint,
    EmbeddingPrompt,
    InfillPrompt,
    Prompt,
    Reading,
    RerankPrompt,
    TextPrompt,
    TokenPrompt,
)
from appliance.wire import PromptRead

# To tokenise so much takes no longer than to find out how long a token can be.
_CHEAP_BYTES: Final = 256 * 1024
# Each may take as long as a template may: a conversation that is to be shortened is rendered so many times again.
_RENDERINGS_MAX: Final = 4


# Code is no place for tokens that steer a model.
_PLAIN: Final = Reading(add_special=False, parse_special=False)


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """A prompt as the model takes it.

    answer, spoken: see Sequence; a completion is not read any further. closing: tokens that end a thought.
    constraint: what keeps the answer to calls, where it must be some.
    """

    tokens: list[int]
    answer: AnswerFormat | None = None
    spoken: Mapping[int, bytes] = field(default_factory=dict)
    closing: tuple[int, ...] = ()
    constraint: Constraint | None = None


class Vocabulary(Protocol):
    """What the model's vocabulary must offer here; safe to use while the engine thread computes."""

    @property
    def size(self) -> int:
        """Number of tokens."""
        ...

    @property
    def piece_bytes_max(self) -> int:
        """Most bytes of text that one token stands for. The first to ask may wait for 0.2 s."""
        ...

    def tokenize(self, text: str, reading: Reading = AS_PROMPT) -> list[int]:
        """Tokens of a text, special tokens recognised, begun by one BOS where the model wants it."""
        ...

    @property
    def infill(self) -> tuple[int, int, int]:
        """The tokens before a prefix, before what is between, and before a suffix; -1 where the model has none."""
        ...

    def written(self, token: int) -> bytes:
        """A token as it is written in a text, control tokens too."""
        ...


class PromptReader:
    """Renders, tokenises and checks prompts. Main thread only, because of the template's deadline."""

    def __init__(
        self, vocabulary: Vocabulary, template: ChatTemplate | None, n_ctx: int, answers: Answers | None = None
    ) -> None:
        """answers: how those of a chat are to be read; None where there is no template."""
        self._vocabulary = vocabulary
        self._template = template
        self._n_ctx = n_ctx
        self._answers = answers

    def read(self, prompt: Prompt, must_call: CallChoice | None = None) -> ReadPrompt:
        """The prompt's tokens: at least one, and at least one fewer than n_ctx. Raises RequestError.

        must_call: only for a chat with the tools that it wants.
        """
        room = prompt.answer_room if isinstance(prompt, ChatPrompt) else None
        read = self._read(prompt) if room is None else self._read_shortened(prompt, room)
        if must_call is not None:
            read = self._forced(prompt, read, must_call)
        if not read.tokens:
            raise RequestError("invalid_request", "the prompt is empty; send a text or tokens", param=_param(prompt))
        if len(read.tokens) >= self._n_ctx:
            raise self._too_long(prompt, len(read.tokens), "")
        return read

    def look(self, number: int, prompt: Prompt, reading: Reading) -> PromptRead:
        """What a prompt is to the model. Raises RequestError; one that is somewhat too long can be looked at."""
        if not isinstance(prompt, ChatPrompt | TextPrompt):
            tokens = self._read(prompt).tokens
            text = None
        else:
            text = prompt.text if isinstance(prompt, TextPrompt) else self._chat_template().render(prompt)
            tokens = self._tokenize(prompt, text, reading if isinstance(prompt, TextPrompt) else AS_PROMPT)
        pieces = tuple(map(self._vocabulary.written, tokens))
        return PromptRead(
            number=number,
            text=b"".join(pieces).decode(errors="replace") if text is None else text,
            tokens=tuple(tokens),
            pieces=pieces,
        )

    def _read(self, prompt: Prompt) -> ReadPrompt:
        match prompt:
            case ChatPrompt():
                template = self._chat_template()
                text = template.render(prompt)
                tokens = self._tokenize(prompt, text)
                if self._answers is None:
                    return ReadPrompt(tokens)
                answer = self._answers.format_of(text, shows_tools=template.shows_tools)
                return ReadPrompt(tokens, answer, self._answers.spoken(prompt), self._answers.closing)
            case TextPrompt():
                return ReadPrompt(self._tokenize(prompt, prompt.text))
            case TokenPrompt():
                return ReadPrompt(self._checked(prompt.tokens))
            case InfillPrompt():
                return ReadPrompt(self._infill(prompt))
            case EmbeddingPrompt() | RerankPrompt():
                raise RequestError(
                    "invalid_request",
                    "this model generates text; name one for embeddings or rerank, or set `pooling` in models.yaml",
                    param="model",
                )
            case _:
                assert_never(prompt)

    def _read_shortened(self, prompt: Prompt, room: int) -> ReadPrompt:
        """With as many of its turns as leave that room, the last one in any case. Raises RequestError."""
        assert isinstance(prompt, ChatPrompt), "nothing else has turns"
        most = self._n_ctx - min(room, self._n_ctx // 2)
        for left in range(_RENDERINGS_MAX, -1, -1):
            failure: RequestError | None = None
            try:
                read = self._read(prompt)
                size = len(read.tokens)
            except RequestError as error:
                if error.code != "context_length_exceeded":
                    raise
                failure, size = error, int(error.details["n_prompt_tokens"])
            if failure is None and size <= most:
                return read
            # By characters, which tell little of tokens: somewhat more than needed, and at last all that can go.
            share = 1.1 * (1 - most / size) if left > 1 else 1.0
            shorter = without_oldest(prompt.messages, share)
            if shorter is None:
                break
            prompt = replace(prompt, messages=shorter)
        if failure is not None:
            raise failure
        return read

    def _forced(self, prompt: Prompt, read: ReadPrompt, choice: CallChoice) -> ReadPrompt:
        """The same, and what keeps its answer to calls, which may come in another format than the model's own."""
        assert isinstance(prompt, ChatPrompt), "only chats have tools"
        assert self._answers is not None, "a chat that was rendered has a template, which says how answers are read"
        assert read.answer is not None
        forced, markers = self._answers.forced(read.answer, prompt.tools, choice)
        return ReadPrompt(
            read.tokens,
            replace(read.answer, tools=forced.tools),
            {**read.spoken, **markers},
            read.closing,
            Constraint(kind="grammar", text=forced.grammar, param=choice.param),
        )

    def _infill(self, prompt: InfillPrompt) -> list[int]:
        """Prefix, suffix, and then what is between them, as llama-server has it by default."""
        before, between, after = self._vocabulary.infill
        if min(before, between, after) < 0:
            message = "suffix: this model has no tokens to fill in what is between two texts; leave it out"
            raise RequestError("invalid_request", message, param="suffix")
        prefix = self._tokenize(prompt, prompt.prefix, _PLAIN)
        suffix = self._tokenize(prompt, prompt.suffix, _PLAIN)
        return [*self._vocabulary.tokenize(""), before, *prefix, after, *suffix, between]

    def _chat_template(self) -> ChatTemplate:
        if self._template is None:
            raise RequestError(
                "template_error",
                "this model has no chat template; use /v1/completions with a prompt in the model's own format",
                param="messages",
            )
        return self._template

    def _tokenize(self, prompt: Prompt, text: str, reading: Reading = AS_PROMPT) -> list[int]:
        # Tokenising megabytes takes seconds in which no other request is read; so many bytes cannot fit anyway.
        size = len(text.encode(errors="replace"))
        if size > max(_CHEAP_BYTES, self._n_ctx):
            least = size // self._vocabulary.piece_bytes_max
            if least >= self._n_ctx:
                raise self._too_long(prompt, least, "at least ")
        return self._vocabulary.tokenize(text, reading)

    def _checked(self, tokens: tuple[int, ...]) -> list[int]:
        if len(tokens) >= self._n_ctx:
            return list(tokens)
        for index, token in enumerate(tokens):
            if not 0 <= token < self._vocabulary.size:
                raise RequestError(
                    "invalid_request",
                    f"prompt[{index}] is {token}, but this model's tokens are 0 to {self._vocabulary.size - 1}",
                    param="prompt",
                )
        return list(tokens)

    def _too_long(self, prompt: Prompt, n_prompt_tokens: int, qualifier: str) -> RequestError:
        return RequestError(
            "context_length_exceeded",
            f"the prompt has {qualifier}{n_prompt_tokens} tokens; this model takes {self._n_ctx} tokens a request, "
            "prompt and answer together; shorten it",
            param=_param(prompt),
            details={"n_prompt_tokens": n_prompt_tokens, "n_ctx": self._n_ctx},
        )


def _param(prompt: Prompt) -> str:
    return "messages" if isinstance(prompt, ChatPrompt) else "prompt"
