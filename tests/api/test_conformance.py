"""The running API against its own document, by `schemathesis`: what it says is what happens.

Real workers with small models answer, so that there are answers to be checked, not refusals alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from appliance.types import ModelSpec, SamplingParams
from tests.api.conftest import Api, running_api
from tests.models.pooled import build_bert
from tests.models.recite import build_recite
from tests.unit.responses.making import Site

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
# Of random requests to each operation, beside those that follow from the document.
EXAMPLES: Final = 15
STREAMED: Final = ("/chat/completions", "/completions", "/messages", "/responses")
WHOLE: Final = (
    *STREAMED,
    *("/embeddings", "/rerank", "/reranking", "/v2/rerank", "/messages/count_tokens"),
    *("/tokenize", "/detokenize", "/apply-template"),
)


def specs(folder: Path) -> list[ModelSpec]:
    """A model of each kind, with little room, so that no answer is long."""
    build_recite(folder / "chat.gguf", context=128)
    build_bert(folder / "vectors.gguf", "mean")
    build_bert(folder / "ranks.gguf", "rank", seed=4)
    greedy = SamplingParams(temperature=0)
    return [
        ModelSpec(id=name, path=str(folder / f"{name}.gguf"), n_ctx=128, threads=1, threads_batch=1, sampling=greedy)
        for name in ("chat", "vectors", "ranks")
    ]


async def schemathesis(api: Api, folder: Path) -> tuple[int, str]:
    """Exit status and report of one run."""
    command = ("-m", "schemathesis.cli", "run", f"{api.url}/openapi.json", "-H", "Authorization: Bearer good")
    options = ("--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--continue-on-failure", "--no-color")
    same = ("--seed", "1", "--generation-deterministic", "--workers", "1")
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, *options, *same),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        report, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, report.decode()


@pytest.mark.slow
async def test_every_operation_is_as_the_document_says(tmp_path: Path) -> None:
    worker = (sys.executable, "-m", "appliance.worker")
    async with running_api(specs=specs(tmp_path), command=worker, responses=Site(tmp_path).store()) as api:
        status, report = await schemathesis(api, tmp_path)
        assert status == 0, report
        answered = Counter(
            (record.path.removeprefix("/v1"), bool(record.stream)) for record in api.records if record.status == 200
        )
        for path in WHOLE:
            assert answered[path, False] >= 3, (path, report)
        for path in STREAMED:
            assert answered[path, True] >= 3, (path, report)
        kept = [path for path, _ in answered if path.startswith("/responses/")]
        assert any(path.endswith("/input_items") for path in kept)
        assert any(not path.endswith("/input_items") for path in kept)
        assert api.router.outstanding == 0
        assert not any(snapshot.restarts for snapshot in api.router.snapshots().values())
