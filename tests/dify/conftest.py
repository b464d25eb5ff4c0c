"""One appliance with every kind of model, and the ways to it that docs/DIFY.md describes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.demo import DEMO_MODEL_PATH
from appliance.security.dify_bundle import CONTAINER_FOLDER, Endpoint
from tests.dify.judge_process import Judge, running_judge
from tests.dify.parts import PARTS
from tests.e2e.appliance_process import Appliance, run_command, running_appliance
from tests.models.actor import build_actor
from tests.models.pooled import build_bert
from tests.ports import free_port
from tests.security.nginx import NGINX
from tests.security.sidecar import running_sidecar

CLIENT = "dify-chat"


@pytest.fixture(scope="session")
def direct_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def appliance(tmp_path_factory: pytest.TempPathFactory, recite_gguf: Path, direct_port: int) -> Iterator[Appliance]:
    folder = tmp_path_factory.mktemp("dify")
    build_actor(folder / "actor.gguf", PARTS)
    build_bert(folder / "embed.gguf", "mean")
    build_bert(folder / "rank.gguf", "rank")
    (folder / "broken.gguf").write_bytes(recite_gguf.read_bytes()[:200_000])
    models = folder / "models.yaml"
    entries = {
        "demo": f"path: {DEMO_MODEL_PATH}, n_ctx: 8192, parallel: 4, preload: true, sampling: {{temperature: 0}}",
        "recite": f"path: {recite_gguf}, parallel: 4, preload: true, sampling: {{temperature: 0}}",
        "actor": "path: actor.gguf, preload: true, sampling: {temperature: 0}",
        "embed": "path: embed.gguf, preload: true",
        "rank": "path: rank.gguf, preload: true",
        "broken": "path: broken.gguf",
    }
    # Threads of several workers that wait for each other make a busy machine slow.
    lines = [f"  - {{id: {name}, threads: 1, threads_batch: 1, {fields}}}\n" for name, fields in entries.items()]
    models.write_text("models:\n" + "".join(lines))
    config = f"listeners: {{api: {{}}, dify: {{port: {direct_port}, mode: key, allow: [127.0.0.1]}}}}\n"
    with running_appliance(folder / "run", "--models", models, config=config) as appliance:
        command(appliance, "clients", "add", CLIENT)
        yield appliance


def command(appliance: Appliance, *arguments: str | Path) -> str:
    """What an `appliance` command prints."""
    outcome = run_command(*arguments, "--state-dir", appliance.state)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


@pytest.fixture(scope="session", params=["sidecar", "direct"])
def judge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, appliance: Appliance, direct_port: int
) -> Iterator[Judge]:
    """Dify with the sidecar and without, by the files of `appliance clients bundle`."""
    folder = tmp_path_factory.mktemp("judge")
    key = appliance.key(CLIENT)
    if request.param == "direct":
        bundle = made_bundle(appliance, folder / "llm")
        with running_judge(folder, f"https://localhost:{direct_port}/v1", key, daemon_environment(bundle)) as judge:
            yield judge
        return
    if NGINX is None:
        pytest.skip("no nginx on this machine; `apt-get install nginx-light`")
    endpoint = Endpoint("127.0.0.1", int(appliance.url.rpartition(":")[2]), "cert_and_key")
    with running_sidecar(folder / "llm", appliance.bundle(CLIENT), endpoint) as sidecar:
        environment = daemon_environment(folder / "llm") | {"NO_PROXY": "127.0.0.1"}
        with running_judge(folder, f"{sidecar.url}/v1", key, environment) as judge:
            yield judge


def made_bundle(appliance: Appliance, folder: Path) -> Path:
    """What an operator without a sidecar hands over: no client certificate."""
    shutil.copytree(appliance.bundle(CLIENT), folder)
    arguments = ("--dify", "--host", "localhost", "--listener", "dify", "--no-sidecar", "--out", folder)
    command(appliance, "clients", "bundle", CLIENT, *arguments)
    for name in ("client.crt", "client.key"):
        (folder / name).unlink()
    return folder


def daemon_environment(bundle: Path) -> dict[str, str]:
    """What the bundle's compose file gives the plugin daemon; its paths are those of the container."""
    compose: Any = yaml.safe_load((bundle / "docker-compose.override.yaml").read_text())
    environment: dict[str, str] = compose["services"]["plugin_daemon"]["environment"]
    return {name: value.replace(CONTAINER_FOLDER, str(bundle)) for name, value in environment.items()}
