"""Tries a model that nobody has vouched for, in a process that is thrown away afterwards.

What the file does to llama.cpp or to the template engine it does to this process alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.engine.detokenizer import Detokenizer
from appliance.engine.plan import BatchItem, Done, KeepPrefix, Plan
from appliance.engine.prompt import ChatTemplate
from appliance.engine.runner import PoolingRunner, Runner
from appliance.engine.sequence import Sequence
from appliance.errors import GgufError, LoadError, RequestError
from appliance.gguf.facts import facts_of
from appliance.gguf.header import read_header
from appliance.types import ChatMessage, ChatPrompt, LogprobParams, ModelSpec, Pooling, SamplingParams
from appliance.wire import Inspect, Inspected, LoadFailed
from appliance.worker.watchdog import ends_after

# Enough for a short question in any template; a longer prompt is cut.
N_CTX: Final = 512
PROMPT_TOKENS_MAX: Final = 32
LoadRunner = Callable[[ModelSpec, Callable[[float], None]], Runner | PoolingRunner]

_QUESTION: Final = ChatPrompt(messages=(ChatMessage(role="user", content="Hello"),))


def inspect(job: Inspect, load_runner: LoadRunner, progress: Callable[[float], None]) -> Inspected | LoadFailed:
    """Loads the model, renders its template and decodes one token, or makes one vector.

    Main thread only, because of the template's deadline. The process ends where it takes longer than load_seconds_max.
    """
    name = Path(job.path).name
    try:
        with ends_after(job.load_seconds_max):
            runner = load_runner(_spec(job.path), progress)
            if isinstance(runner, PoolingRunner):
                _pool(runner)
            else:
                text = _rendered(runner, job.template_seconds_max)
                _decode(runner, runner.vocabulary.tokenize(text))
    except LoadError as error:
        reason = str(error)
        return LoadFailed(reason=reason if reason.startswith(f"{name}: ") else f"{name}: {reason}")
    return Inspected(info=runner.info)


def _spec(path: str) -> ModelSpec:
    """On the processor, with the least memory: the devices belong to the models that are being served."""
    return ModelSpec(
        id="inspection",
        path=path,
        n_gpu_layers=0,
        n_ctx=N_CTX,
        parallel=1,
        kv="unified",
        n_batch=64,
        n_ubatch=64,
        pooling=_pooling(path),
    )


def _pooling(path: str) -> Pooling | None:
    """Any, for a model whose file does not say which: models.yaml will."""
    try:
        with Path(path).open("rb") as file:
            facts = facts_of(read_header(file))
    except (GgufError, OSError):
        return None  # the load says what is wrong with it
    return "mean" if facts.kind == "embedding" and facts.pooling in (None, "none") else None


def _pool(runner: PoolingRunner) -> None:
    """Raises LoadError where neither a vector nor a score comes of it."""
    tokens = runner.tokenizer.whole("Hello")[:PROMPT_TOKENS_MAX] or [0]
    try:
        (vector,) = runner.compute([tokens])
    except RuntimeError as error:
        raise LoadError(f"it cannot compute: {error}") from None
    if vector is None:
        raise LoadError("what it computes are no numbers: its weights are damaged, or were converted wrongly")


def _rendered(runner: Runner, seconds_max: float) -> str:
    """A short question as the model's template writes it. Raises LoadError."""
    if runner.chat_template is None:
        return "Hello"
    vocabulary = runner.vocabulary
    template = ChatTemplate(
        runner.chat_template, bos=vocabulary.bos_text, eos=vocabulary.eos_text, seconds_max=seconds_max
    )
    try:
        return template.render(_QUESTION)
    except RequestError as error:
        raise LoadError(f"its chat template does not take a plain question: {error}") from None


def _decode(runner: Runner, tokens: list[int]) -> None:
    """Raises LoadError where no token comes of it."""
    prompt = tokens[:PROMPT_TOKENS_MAX] or [runner.vocabulary.warm_up_token]
    sequence = Sequence(
        number=1,
        tokens=prompt,
        output_max=1,
        sampling=SamplingParams(temperature=0),
        detokenizer=Detokenizer(()),
        arrived=time.monotonic(),
        logprobs=LogprobParams(),
    )
    item = BatchItem(sequence, slot=0, start=0, tokens=prompt, sample=True)
    plan = Plan(events=(), cache=(KeepPrefix(0, 0),), items=(item,))
    try:
        runner.launch(plan)
        outcome = runner.collect(plan)
    except RuntimeError as error:
        raise LoadError(f"it cannot compute: {error}") from None
    if not isinstance(outcome, Done):
        raise LoadError(f"it cannot compute {len(prompt)} tokens in a context of {N_CTX}")
    logprob = outcome.sampled[0].logprob
    # The likeliest of n tokens has at least 1/n; of logits that are no numbers none has anything.
    if logprob is None or logprob.logprob < -math.log(runner.vocabulary.size) - 1:
        raise LoadError("what it computes are no numbers: its weights are damaged, or were converted wrongly")
