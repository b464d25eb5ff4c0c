"""Which version of a model answers: all that decides what it says to the same prompt, settings and seed. Pure."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec
from msgspec import Struct

from appliance.types import CacheType, ModelInfo, ModelSpec

_FINGERPRINT_DIGITS: Final = 12


class EngineSettings(Struct, frozen=True, kw_only=True):
    """What of a ModelSpec, and of how it was placed and loaded, may change an answer; see there.

    n_ctx: most tokens of one request. n_ctx_total: KV cells in all.
    """

    n_ctx: int
    n_ctx_total: int
    parallel: int
    kv: Literal["unified", "split"]
    n_batch: int
    n_ubatch: int
    cache_type_k: CacheType
    cache_type_v: CacheType
    flash_attn: Literal["auto", "on", "off"]
    gpu_layers: int
    tensor_split: tuple[float, ...]


class ModelVersion(Struct, frozen=True, kw_only=True):
    """content: hex, see `content_digest`. chat_template_sha256, engine_build: see ModelInfo."""

    content: str
    chat_template_sha256: str | None
    engine_build: str
    settings: EngineSettings


def version_of(spec: ModelSpec, info: ModelInfo, content: str) -> ModelVersion:
    """spec: as the worker was told to load it. info: what it found."""
    flash_attn = spec.flash_attn
    return ModelVersion(
        content=content,
        chat_template_sha256=info.chat_template_sha256,
        engine_build=info.engine_build,
        settings=EngineSettings(
            n_ctx=info.n_ctx,
            n_ctx_total=info.n_ctx_total,
            parallel=info.parallel,
            kv=info.kv,
            n_batch=spec.n_batch,
            n_ubatch=spec.n_ubatch,
            cache_type_k=spec.cache_type_k,
            cache_type_v=spec.cache_type_v,
            flash_attn=("on" if flash_attn else "off") if isinstance(flash_attn, bool) else flash_attn,
            gpu_layers=info.gpu_layers,
            tensor_split=spec.tensor_split,
        ),
    )


def fingerprint_of(version: ModelVersion) -> str:
    """OpenAI's `system_fingerprint`: the same for the same file, build and settings, on whatever host."""
    digest = hashlib.sha256(msgspec.json.encode(version, order="sorted"))
    return f"fp_{digest.hexdigest()[:_FINGERPRINT_DIGITS]}"
