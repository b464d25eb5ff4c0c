"""Daemons that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.appliance_process import Appliance, running_appliance
from tests.models import build_recite

HOSTILE_TEMPLATES = {
    "loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}"
    "{% endfor %}",
    "attribute": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "range": "{% for a in range(10**9) %}x{% endfor %}",
    "repeat": "{{ 'x' * 10**10 }}",
}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """`appliance serve --demo`, as `make run` starts it."""
    with running_appliance(tmp_path_factory.mktemp("demo"), "--demo") as appliance:
        yield appliance


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory, recite_gguf: Path, random_gguf: Path) -> Iterator[Appliance]:
    """Good models beside broken and hostile ones."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "truncated.gguf").write_bytes(recite_gguf.read_bytes()[:200_000])
    (folder / "text.gguf").write_text("not a model at all")
    (folder / "header.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    build_recite(folder / "alien.gguf", architecture="alien")
    entries = [
        f"{{id: recite, path: {recite_gguf}, parallel: 16, n_ctx: 16384, preload: true, sampling: {{temperature: 0}}}}",
        f"{{id: random, path: {random_gguf}, sampling: {{temperature: 0}}}}",
        *(f"{{id: {name}, path: {name}.gguf}}" for name in ("truncated", "text", "header", "alien", "missing")),
    ]
    for name, template in HOSTILE_TEMPLATES.items():
        build_recite(folder / f"{name}.gguf", chat_template=template)
        entries.append(f"{{id: {name}, path: {name}.gguf}}")
    models = folder / "models.yaml"
    models.write_text("models:\n" + "".join(f"  - {entry}\n" for entry in entries))
    with running_appliance(folder / "run", "--models", models) as appliance:
        yield appliance
