"""Turns a request for vectors or scores into tokens, and refuses what cannot run."""

from __future__ import annotations

from typing import Final

from appliance.engine.pooling.job import PoolingInput
from appliance.engine.pooling.pairs import PairFormat, SeparatedPair, TemplatePair, Tokenizer
from appliance.errors import RequestError
from appliance.types import EmbeddingPrompt, ModelKind, Prompt, Reading, RerankPrompt, TextPrompt, TokenPrompt
from appliance.wire import PromptRead

# Tokens may stand for much less than the most they can: white space for nothing at all.
_SPARE: Final = 4


class PoolingReader:
    """Belongs to the io thread. n_ctx: tokens of one input. dimensions: of the model's vectors."""

    def __init__(
        self, tokenizer: Tokenizer, kind: ModelKind, *, n_ctx: int, dimensions: int, rerank_template: str | None
    ) -> None:
        self._tokenizer = tokenizer
        self._kind = kind
        self._n_ctx = n_ctx
        self._dimensions = dimensions
        # Tokenising megabytes takes seconds in which no other request is read; so much text cannot fit anyway.
        self._chars_max = _SPARE * n_ctx * tokenizer.piece_bytes_max
        self._pair: PairFormat = (
            SeparatedPair(tokenizer) if rerank_template is None else TemplatePair(tokenizer, rerank_template)
        )

    def read(self, prompt: Prompt) -> tuple[PoolingInput, ...]:
        """What is to be computed, in the order of the prompt. Raises RequestError."""
        match prompt:
            case EmbeddingPrompt() if self._kind == "embedding":
                self._check_dimensions(prompt.dimensions)
                return tuple(self._embedded(prompt, index) for index in range(len(prompt.inputs)))
            case RerankPrompt() if self._kind == "rerank":
                return tuple(self._ranked(prompt, index) for index in range(len(prompt.documents)))
            case _:
                raise self._misplaced()

    def look(self, number: int, prompt: Prompt, reading: Reading) -> PromptRead:
        """What a text is to the model, or what tokens stand for. Raises RequestError."""
        text: str | None = None
        match prompt:
            case TextPrompt():
                if len(prompt.text) > self._chars_max:
                    raise self._too_long("the text", None, "content")
                tokens, text = self._tokenizer.read(prompt.text, reading), prompt.text
            case TokenPrompt():
                tokens = self._checked(prompt.tokens, "tokens")
            case _:
                raise self._misplaced()
        pieces = tuple(map(self._tokenizer.written, tokens))
        said = b"".join(pieces).decode(errors="replace") if text is None else text
        return PromptRead(number=number, text=said, tokens=tuple(tokens), pieces=pieces)

    def _misplaced(self) -> RequestError:
        use = "reranks documents; use /v1/rerank" if self._kind == "rerank" else "makes embeddings; use /v1/embeddings"
        return RequestError("invalid_request", f"this model {use}, or name another model", param="model")

    def _check_dimensions(self, wanted: int | None) -> None:
        if wanted is not None and wanted > self._dimensions:
            message = f"dimensions: this model's vectors have {self._dimensions}; ask for no more"
            raise RequestError("invalid_request", message, param="dimensions")

    def _embedded(self, prompt: EmbeddingPrompt, index: int) -> PoolingInput:
        given = prompt.inputs[index]
        param = f"input[{index}]"
        if isinstance(given, str):
            tokens, long = self._tokenizer.whole(given[: self._chars_max]), len(given) > self._chars_max
        else:
            tokens, long = self._checked(given, param), False
        if not tokens:
            raise RequestError("invalid_request", f"{param} is empty; send a text", param="input")
        if not long and len(tokens) <= self._n_ctx:
            return PoolingInput(tokens)
        if not prompt.truncate:
            raise self._too_long(param, len(tokens), "input")
        return PoolingInput(self._cut(tokens), truncated=True)

    def _cut(self, tokens: list[int]) -> list[int]:
        """The beginning of a text, ended as every text is."""
        suffix = self._tokenizer.suffix
        if not suffix or tokens[-len(suffix) :] != suffix or len(suffix) >= self._n_ctx:
            return tokens[: self._n_ctx]
        return [*tokens[: -len(suffix)][: self._n_ctx - len(suffix)], *suffix]

    def _checked(self, tokens: tuple[int, ...], param: str) -> list[int]:
        highest = self._tokenizer.size - 1
        wrong = next((token for token in tokens if not 0 <= token <= highest), None)
        if wrong is not None:
            message = f"{param} has token {wrong}, but this model's tokens are 0 to {highest}"
            raise RequestError("invalid_request", message, param="input")
        return list(tokens)

    def _ranked(self, prompt: RerankPrompt, index: int) -> PoolingInput:
        document = prompt.documents[index]
        query = prompt.query[: self._chars_max]
        long = len(document) > self._chars_max or len(prompt.query) > self._chars_max
        tokens, cut = self._pair.fit(query, document[: self._chars_max], self._n_ctx)
        if not tokens:
            raise RequestError(
                "invalid_request", f"documents[{index}] and query are empty; send a text", param="documents"
            )
        if (cut or long) and not prompt.truncate:
            raise self._too_long(f"documents[{index}] with the query", None, "documents")
        return PoolingInput(tokens, truncated=cut or long)

    def _too_long(self, what: str, count: int | None, param: str) -> RequestError:
        has = "has more tokens than" if count is None else f"has {count} tokens, more than"
        details = {"n_ctx": self._n_ctx} if count is None else {"n_prompt_tokens": count, "n_ctx": self._n_ctx}
        return RequestError(
            "context_length_exceeded",
            f"{what} {has} the {self._n_ctx} that this model takes; leave out truncate: false to have it cut",
            param=param,
            details=details,
        )
