"""Files that cannot be served are refused with a reason; those that can say what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.wire import LoadFailed
from tests.engine.client import WorkerClient
from tests.engine.conftest import recite_spec
from tests.models.hostile import build_truncated, build_unknown_architecture, build_wrong_magic
from tests.models.other_memories import build_recurrent
from tests.models.recite import build_recite, recited
from tests.models.vocabulary import N_VOCAB, word


def refused(path: Path, **changes: object) -> str:
    """The reason; the worker must have ended by itself, without an error."""
    with WorkerClient(fork=True) as client:
        client.begin_load(recite_spec(path, **changes))
        outcome = client.load_outcome()
        assert isinstance(outcome, LoadFailed), outcome
        assert client.wait_gone() == 0
    assert str(path.parent) not in outcome.reason or "no such file" in outcome.reason
    assert outcome.reason.startswith(path.name)
    return outcome.reason


def build_empty(path: Path) -> None:
    path.touch()


def build_directory(path: Path) -> None:
    path.mkdir()


def build_nothing(path: Path) -> None:
    pass


def build_bad_template(path: Path) -> None:
    build_recite(path, chat_template="{% if %}")


def build_huge_template(path: Path) -> None:
    build_recite(path, chat_template="a" * 300_000)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (build_truncated, "not within the file bounds"),
        (build_wrong_magic, "not a GGUF file"),
        (build_unknown_architecture, "unknown model architecture: 'warpdrive'"),
        (build_empty, "empty"),
        (build_directory, "directory"),
        (build_nothing, "no such file"),
        (build_bad_template, "chat template does not compile"),
        (build_huge_template, "300000 bytes, more than the limit"),
    ],
)
def test_files_that_cannot_be_served(tmp_path: Path, build: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "model.gguf"
    build(path)
    assert reason in refused(path)


def test_a_header_cut_short(tmp_path: Path, recite_gguf: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(recite_gguf.read_bytes()[:64])
    assert len(refused(path)) > len("model.gguf: ")


@pytest.mark.slow
def test_a_quantised_v_cache_without_flash_attention_is_llama_cpps_refusal(recite_gguf: Path) -> None:
    reason = refused(recite_gguf, cache_type_v="q8_0", flash_attn="off")
    assert "flash_attn" in reason


@pytest.mark.parametrize("kv", ["unified", "split"])
@pytest.mark.slow
def test_a_share_too_small_to_use(recite_gguf: Path, kv: str) -> None:
    assert "raise n_ctx or lower parallel" in refused(recite_gguf, n_ctx=64, parallel=256, kv=kv)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["q8_0", "f32", "bf16"])
def test_quantised_caches_and_flash_attention(recite_gguf: Path, cache: str) -> None:
    with WorkerClient(fork=True) as client:
        client.load(recite_spec(recite_gguf, cache_type_k=cache, cache_type_v=cache, flash_attn=True))
        assert client.ask(word(1), max_tokens=5).text == recited(1, 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "kv"),
    [
        ({"n_ctx": 8192, "parallel": 2}, "unified"),
        ({"n_ctx": 16384, "parallel": 2}, "split"),
        ({"n_ctx": 16384, "parallel": 2, "kv": "unified"}, "unified"),
        ({"n_ctx": 8192, "parallel": 2, "kv": "split"}, "split"),
    ],
    ids=str,
)
def test_kv_auto_splits_where_every_share_is_long(recite_gguf: Path, fields: dict[str, object], kv: str) -> None:
    with WorkerClient(fork=True) as client:
        assert client.load(recite_spec(recite_gguf, **fields)).kv == kv


@pytest.mark.slow
def test_kv_auto_never_splits_a_recurrent_state(tmp_path: Path) -> None:
    build_recurrent(tmp_path / "model.gguf")
    with WorkerClient(fork=True) as client:
        assert client.load(recite_spec(tmp_path / "model.gguf", n_ctx=16384, parallel=2)).kv == "unified"


def test_what_a_model_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    build_recite(path, context=1024)
    with WorkerClient(fork=True) as client:
        info = client.load(recite_spec(path, n_ctx=4096, parallel=2))
    assert (info.architecture, info.n_vocab, info.parallel, info.kv) == ("llama", N_VOCAB, 2, "split")
    assert (info.n_ctx, info.n_ctx_total, info.n_ctx_train) == (1024, 4096, 1024)
    assert info.parameters > 10**6 and info.size_bytes > 4 * 10**6 and info.load_seconds > 0
    assert info.description.split()[:2] == ["llama", f"{info.parameters / 1e6:.1f}M"]
    assert info.gpu_layers == 0 or info.gpu_layers == 2
