"""Loads a model and its context, and says in plain words why it could not."""

from __future__ import annotations

import ctypes
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import llama_cpp

from appliance.engine.limits import Limits
from appliance.engine.runner.backends import load_backends
from appliance.engine.runner.build import engine_build
from appliance.engine.runner.context_params import set_computation
from appliance.engine.runner.memory_use import memory_use
from appliance.engine.runner.model_facts import description, failure, file_pooling, metadata
from appliance.engine.runner.native_log import NativeLog
from appliance.engine.runner.pooling_loading import load_pooling
from appliance.engine.runner.pooling_runner import PoolingRunner
from appliance.engine.runner.runner import Runner
from appliance.engine.runner.vocabulary import Vocabulary
from appliance.errors import LoadError, MemoryLack, OutOfMemory
from appliance.gguf.pooling import pooling_of
from appliance.placement.rules import SHARE_MIN, kv_mode, scored_tokens, slots
from appliance.types import MemoryUse, ModelInfo, ModelSpec

_MAGIC: Final = b"GGUF"
_ALL_LAYERS: Final = 10_000
# LLAMA_SPLIT_MODE_NONE of include/llama.h.
_SPLIT_NONE: Final = 0
_NO_GPU: Final = -1
# llama_decode's word for it.
_NO_MEMORY: Final = -2


def load(spec: ModelSpec, progress: Callable[[float], None]) -> Runner:
    """A runner for a model that generates text; see `load_any`."""
    runner = load_any(spec, progress)
    if isinstance(runner, PoolingRunner):
        raise LoadError(f"{Path(spec.path).name}: not a text generation model (it is one for {runner.info.kind})")
    return runner


def load_any(spec: ModelSpec, progress: Callable[[float], None]) -> Runner | PoolingRunner:
    """A runner for the model, warmed up. `progress` gets a fraction of 0 to 1, in this thread, many times.

    Blocks for as long as it takes. Raises LoadError with the reason and what to do, OutOfMemory where it was memory.
    """
    path = Path(spec.path)
    began = time.monotonic()
    try:
        _check_file(path)
        log = NativeLog()
        load_backends()
        llama_cpp.llama_backend_init()
        model = _load_model(spec, log, progress)
        architecture = metadata(model, "general.architecture")
        pooling = pooling_of(file_pooling(model, architecture), spec.pooling, architecture)
        if pooling == "none":
            return _load_generating(spec, model, log, began)
        return load_pooling(spec, model, pooling, log, gpu_layers=_gpu_layers(spec), began=began)
    except OutOfMemory as error:
        raise OutOfMemory(f"{path.name}: {error}", error.lack) from None
    except LoadError as error:
        raise LoadError(f"{path.name}: {error}") from None
    except MemoryError:
        raise OutOfMemory(f"{path.name}: the process got no more memory", MemoryLack(part="compute")) from None


def _load_generating(spec: ModelSpec, model: Any, log: NativeLog, began: float) -> Runner:
    _check_share(spec)
    kv = kv_mode(spec, int(llama_cpp.llama_model_n_ctx_train(model)), _state_is_whole(model))
    vocabulary = Vocabulary(model)
    with _looking_at_tokens(vocabulary):
        context = _make_context(spec, model, kv, log)
    # Not beside that too: threads of a step wait for the slowest of them.
    _warm_up(context, vocabulary)
    limits = _limits(spec, model, context, kv)
    memory = memory_use(log.buffers())
    log.forget()
    template: bytes | None = llama_cpp.llama_model_chat_template(model, None)
    return Runner(
        model=model,
        context=context,
        vocabulary=vocabulary,
        limits=limits,
        info=_info(spec, model, limits, kv, template, memory, time.monotonic() - began),
        chat_template=None if template is None else template.decode(errors="replace"),
        saved_bytes_max=spec.preempt_host_mib * 2**20,
    )


def _check_file(path: Path) -> None:
    """What llama.cpp would only call `failed to load`."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise LoadError(f"no such file in {path.parent}; correct `path` in models.yaml") from None
    except IsADirectoryError:
        raise LoadError("this is a directory; `path` must name a GGUF file") from None
    except PermissionError:
        raise LoadError(f"the service may not read this file in {path.parent}; give its user read access") from None
    except OSError as error:
        raise LoadError(f"cannot be read: {error.strerror or error}") from None
    if not magic:
        raise LoadError("the file is empty; copy it again")
    if magic != _MAGIC:
        raise LoadError(f"not a GGUF file (it begins with {magic!r}); convert the model to GGUF or name another file")


def _check_share(spec: ModelSpec) -> None:
    """llama.cpp aborts the process where slots outnumber cells."""
    share = spec.n_ctx // spec.parallel
    if share < SHARE_MIN:
        raise LoadError(f"n_ctx / parallel leaves {share} tokens a request; raise n_ctx or lower parallel")


def _load_model(spec: ModelSpec, log: NativeLog, progress: Callable[[float], None]) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = _gpu_layers(spec)
    _choose_devices(params, spec)

    def on_progress(fraction: float, _data: Any) -> bool:
        progress(fraction)
        return True

    callback = llama_cpp.llama_progress_callback(on_progress)
    params.progress_callback = callback
    model = llama_cpp.llama_model_load_from_file(spec.path.encode(), params)
    if not model:
        raise failure(log, "weights", "", "check that the file is complete and of a supported architecture")
    if llama_cpp.llama_model_has_encoder(model) or not llama_cpp.llama_model_has_decoder(model):
        raise LoadError("not a text generation model (it has an encoder); name a decoder-only model")
    return model


def _state_is_whole(model: Any) -> bool:
    """Whether the memory is, or has in part, a recurrent state: it cannot go back to a prefix."""
    return bool(llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model))


def _make_context(spec: ModelSpec, model: Any, kv: str, log: NativeLog) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = spec.n_ctx
    params.n_batch = max(spec.n_batch, spec.parallel)
    params.n_ubatch = spec.n_ubatch
    params.n_seq_max = slots(spec, kv)
    set_computation(params, spec)
    params.kv_unified = kv == "unified"
    params.swa_full = True
    # Room for a row of logits for each slot and some tokens of prompts; by default there is one for each token of a
    # pass, 300 MB at a large vocabulary, of which a step rarely fills more than `parallel`.
    params.n_outputs_max = params.n_seq_max + scored_tokens(spec, _n_vocab(model))
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        advice = "lower n_ctx or parallel, or change cache_type_k, cache_type_v or flash_attn"
        raise failure(log, "cache", "the context cannot be made: ", advice)
    if not llama_cpp.llama_get_memory(context):
        raise LoadError("not a text generation model (it has no KV cache); name a decoder-only model")
    return context


def _warm_up(context: Any, vocabulary: Vocabulary) -> None:
    """Touches every weight once, so that the first request does not wait for the disk."""
    llama_cpp.llama_set_warmup(context, True)
    tokens = (llama_cpp.llama_token * 1)(vocabulary.warm_up_token)
    code = llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 1))
    llama_cpp.llama_synchronize(context)
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    llama_cpp.llama_set_warmup(context, False)
    if code == _NO_MEMORY:
        raise OutOfMemory("its first step got no memory", MemoryLack(part="compute"))
    if code != 0:
        raise LoadError(f"its first step failed with {code}; the log of this service has the details")


@contextmanager
def _looking_at_tokens(vocabulary: Vocabulary) -> Iterator[None]:
    """Finds the ends of answers meanwhile: Python's work beside llama.cpp's."""
    thread = threading.Thread(target=lambda: vocabulary.ends, name="vocabulary")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _limits(spec: ModelSpec, model: Any, context: Any, kv: str) -> Limits:
    n_ctx = spec.n_ctx // spec.parallel if kv == "split" else spec.n_ctx
    n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(model))
    return Limits(
        parallel=spec.parallel,
        n_slots=slots(spec, kv),
        n_cells=spec.n_ctx,
        n_ctx=min(n_ctx, n_ctx_train) if n_ctx_train > 0 else n_ctx,
        # llama.cpp lowers both where n_ctx is smaller, and aborts on a larger batch.
        n_batch=llama_cpp.llama_n_batch(context),
        n_ubatch=llama_cpp.llama_n_ubatch(context),
        reuse="whole" if _state_is_whole(model) else "any",
        saves=spec.preempt_host_mib > 0,
        split=kv == "split",
        scored_max=scored_tokens(spec, _n_vocab(model)),
    )


def _n_vocab(model: Any) -> int:
    return int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)))


def _info(
    spec: ModelSpec,
    model: Any,
    limits: Limits,
    kv: Literal["unified", "split"],
    template: bytes | None,
    memory: MemoryUse,
    seconds: float,
) -> ModelInfo:
    return ModelInfo(
        architecture=metadata(model, "general.architecture"),
        description=description(model),
        parameters=llama_cpp.llama_model_n_params(model),
        size_bytes=llama_cpp.llama_model_size(model),
        n_vocab=llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model)),
        n_ctx=limits.n_ctx,
        n_ctx_total=limits.n_cells,
        n_ctx_train=llama_cpp.llama_model_n_ctx_train(model),
        parallel=limits.parallel,
        kv=kv,
        gpu_layers=min(_gpu_layers(spec), llama_cpp.llama_model_n_layer(model) + 1),
        chat_template=template is not None,
        load_seconds=seconds,
        engine_build=engine_build(),
        chat_template_sha256=_template_sha256(template),
        memory=memory,
        embedding_length=llama_cpp.llama_model_n_embd(model),
    )


def _template_sha256(template: bytes | None) -> str | None:
    """Of the text that is rendered, as `gguf.facts` has it too."""
    return None if template is None else hashlib.sha256(template.decode(errors="replace").encode()).hexdigest()


def _gpu_layers(spec: ModelSpec) -> int:
    if not llama_cpp.llama_supports_gpu_offload():
        return 0
    return _ALL_LAYERS if spec.n_gpu_layers == "auto" else spec.n_gpu_layers


def _choose_devices(params: Any, spec: ModelSpec) -> None:
    """Which GPUs take part; without shares llama.cpp divides by free memory.

    The others stay untouched: a context on each costs hundreds of megabytes.
    """
    shares = spec.tensor_split
    if spec.n_gpu_layers == 0:
        params.split_mode, params.main_gpu = _SPLIT_NONE, _NO_GPU
        return
    used = [index for index, share in enumerate(shares) if share > 0]
    if len(used) == 1:
        params.split_mode, params.main_gpu = _SPLIT_NONE, used[0]
    elif used:
        count = int(llama_cpp.llama_max_devices())
        params.tensor_split = (ctypes.c_float * count)(*shares[:count])
