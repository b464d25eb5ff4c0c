"""The context of a model that pools, and what its outputs mean."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import llama_cpp

from appliance.engine.pooling.scheduler import PoolingLimits
from appliance.engine.pooling.vectors import Vector, relevance, relevant_label, unit
from appliance.engine.runner.build import engine_build
from appliance.engine.runner.context_params import set_computation
from appliance.engine.runner.memory_use import memory_use
from appliance.engine.runner.model_facts import description, failure, metadata
from appliance.engine.runner.native_log import NativeLog
from appliance.engine.runner.pooling_runner import PoolingRunner
from appliance.engine.runner.text_tokenizer import TextTokenizer
from appliance.errors import LoadError
from appliance.gguf.pooling import ENCODERS, POOLING_NAMES, kind_of
from appliance.placement.pooling import SEQUENCES, PoolingLayout, pooling_layout
from appliance.types import ModelInfo, ModelSpec, Pooling

# Embeddings come by the thousand and nobody watches them come. llama.cpp's threads wait for each other by spinning:
# where a chat model computes on the same cores, as many threads of a second model slow both down manifold.
CORES_SHARE: Final = 0.5
NICENESS: Final = 5
_POOLING_TYPES: Final = {name: number for number, name in POOLING_NAMES.items()}
# Architectures whose rank head ends in a softmax inside llama.cpp: build_pooling of src/llama-graph.cpp.
_SOFTMAXED: Final = frozenset({"qwen3", "qwen3vl"})


def load_pooling(
    spec: ModelSpec, model: Any, pooling: Pooling | None, log: NativeLog, *, gpu_layers: int, began: float
) -> PoolingRunner:
    """A runner for a loaded model, warmed up. Raises LoadError with the reason and what to do."""
    if pooling is None:
        raise LoadError(
            "a model for embeddings whose file does not say how its tokens become one vector; "
            "set `pooling` to mean, cls or last in models.yaml, as its maker says"
        )
    architecture = metadata(model, "general.architecture")
    causal = metadata(model, f"{architecture}.attention.causal") != "false" and architecture not in ENCODERS
    n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(model))
    layout = pooling_layout(spec, pooling, n_ctx_train=n_ctx_train, encoder=architecture in ENCODERS, causal=causal)
    if not gpu_layers:
        # Of this thread and of those that it starts from now on, which are all that compute.
        os.nice(NICENESS)
    outputs, finish = _outputs(model, pooling, architecture)
    context = _make_context(spec, model, pooling, layout, log)
    if llama_cpp.llama_get_causal_attn(context) and pooling == "cls":
        raise LoadError("its tokens see only those before them, so that the first one says nothing: use pooling: last")
    tokenizer = TextTokenizer(model)
    template = llama_cpp.llama_model_chat_template(model, b"rerank") if pooling == "rank" else None
    limits = PoolingLimits(layout.n_ctx, layout.step_tokens, SEQUENCES)
    runner = PoolingRunner(
        context=context,
        tokenizer=tokenizer,
        limits=limits,
        info=ModelInfo(
            architecture=architecture,
            description=description(model),
            parameters=llama_cpp.llama_model_n_params(model),
            size_bytes=llama_cpp.llama_model_size(model),
            n_vocab=tokenizer.size,
            n_ctx=layout.n_ctx,
            n_ctx_total=layout.cells,
            n_ctx_train=n_ctx_train,
            parallel=SEQUENCES,
            kv="unified",
            gpu_layers=min(gpu_layers, llama_cpp.llama_model_n_layer(model) + 1),
            chat_template=False,
            load_seconds=0.0,
            engine_build=engine_build(),
            kind=kind_of(pooling),
            pooling=pooling,
            embedding_length=llama_cpp.llama_model_n_embd_out(model),
        ),
        outputs=outputs,
        finish=finish,
        rerank_template=None if template is None else template.decode(errors="replace"),
        batch_tokens=layout.batch,
    )
    _warm_up(runner, tokenizer)
    runner.measured(memory_use(log.buffers()), time.monotonic() - began)
    log.forget()
    return runner


def _outputs(model: Any, pooling: Pooling, architecture: str) -> tuple[int, Callable[[Vector], Vector | None]]:
    """How many numbers llama.cpp makes of a text, and what becomes of them."""
    if pooling != "rank":
        return int(llama_cpp.llama_model_n_embd_out(model)), unit
    count = int(llama_cpp.llama_model_n_cls_out(model))
    names = [llama_cpp.llama_model_cls_label(model, index) for index in range(count)]
    labels = [(name or b"").decode(errors="replace") for name in names]
    label = relevant_label(labels)
    if label is None:
        raise LoadError(f"none of the labels of its rank head says `relevant`: {', '.join(labels)}; name another model")
    return count, partial(relevance, label=label, probabilities=architecture in _SOFTMAXED and count > 1)


def _make_context(spec: ModelSpec, model: Any, pooling: Pooling, layout: PoolingLayout, log: NativeLog) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = layout.batch
    params.n_batch = layout.batch
    params.n_ubatch = layout.pass_tokens
    params.n_seq_max = SEQUENCES
    set_computation(params, spec, CORES_SHARE)
    params.kv_unified = True
    params.embeddings = True
    params.pooling_type = _POOLING_TYPES[pooling]
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise failure(log, "cache", "the context cannot be made: ", "lower n_ctx, or change flash_attn")
    if not llama_cpp.llama_get_memory(context) and layout.cells:
        raise LoadError("not a text generation model, nor one of the known ones for embeddings; name another model")
    return context


def _warm_up(runner: PoolingRunner, tokenizer: TextTokenizer) -> None:
    """Touches every weight once, so that the first request does not wait for the disk."""
    tokens = tokenizer.whole("a") or [0]
    try:
        runner.compute([tokens])
    except RuntimeError as error:
        raise LoadError(f"its first step failed: {error}; the log of this service has the details") from None
