"""The official JSON Schema test suite, draft 2020-12: what a model with random weights writes under a schema is valid,
or the schema is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry

from appliance.types import Constraint, SamplingParams
from appliance.wire import Failed
from bench.source_archive import unpacked_source
from tests.engine.client import WorkerClient
from tests.engine.conftest import random_spec

TRIES = 3
# What llguidance is able to do at all must not shrink unseen.
SCHEMAS_DONE_MIN = 130


def schemas() -> Iterator[tuple[str, Any]]:
    archive = unpacked_source("jsonschema", Path("requirements/dev.lock"))
    for path in sorted((archive / "json/tests/draft2020-12").glob("*.json")):
        for case in json.loads(path.read_text()):
            yield f"{path.stem}: {case['description']}", case["schema"]


@pytest.mark.slow
def test_an_answer_is_valid_or_its_schema_refused(random_gguf: Path) -> None:
    wrong: list[str] = []
    done: Counter[str] = Counter()
    with WorkerClient() as worker:
        worker.load(random_spec(random_gguf, parallel=8, n_ctx=8192))
        for name, schema in schemas():
            constraint = Constraint(kind="json_schema", text=json.dumps(schema))
            asked = [
                worker.add(
                    "abc",
                    sampling=SamplingParams(temperature=1, seed=seed, top_k=0, top_p=1, min_p=0),
                    max_tokens=120,
                    constraint=constraint,
                )
                for seed in range(TRIES)
            ]
            for answer in worker.wait(*asked):
                if isinstance(answer.end, Failed):
                    if answer.end.code != "invalid_request" or answer.text:
                        wrong.append(f"{name}: {answer.end.message}")
                elif answer.finished.reason == "stop":
                    done[name] += 1
                    if not Draft202012Validator(schema, registry=Registry()).is_valid(json.loads(answer.text)):
                        wrong.append(f"{name}: {answer.text}")
    assert not wrong
    assert len(done) >= SCHEMAS_DONE_MIN, f"only {len(done)} schemas gave an answer"
