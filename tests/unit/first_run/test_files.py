from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import load_config, load_models
from appliance.first_run.answers import Answers, ServedFile
from appliance.first_run.files import APPLIANCE_YAML, GROUPS, MODELS_YAML, SERVICE_DROP_IN, SOCKET_DROP_IN, files
from appliance.first_run.handover import HANDOVER

FULL = Answers(
    address="192.0.2.1",
    port=9443,
    names=("llm.example.lan",),
    allow=("192.0.2.0/24", "2001:db8::/32"),
    administrators={"anna": ("operator",)},
    model_dir="/data/models",
    models=(ServedFile(id="chat", file="chat.gguf"),),
)


@pytest.fixture(params=[Answers(), FULL], ids=["usual", "full"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for name, text in files(request.param).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_product_takes_them(written: Path) -> None:
    config, models = load_config(written / APPLIANCE_YAML), load_models(written / MODELS_YAML)
    assert config.key_encryption.source == "credential"
    assert "127.0.0.0/8" in config.listeners["api"].allow
    assert config.admin.groups["operator"] == (GROUPS["operator"],)
    assert models.models


def test_they_say_what_was_answered() -> None:
    found = files(FULL)
    assert "ListenStream=\nListenStream=192.0.2.1:9443\n" in found[SOCKET_DROP_IN]
    for drop_in in (SOCKET_DROP_IN, SERVICE_DROP_IN):
        assert "IPAddressAllow=192.0.2.0/24\nIPAddressAllow=2001:db8::/32\n" in found[drop_in]
    assert "/data/models/chat.gguf" in found[MODELS_YAML]
    assert "ListenStream=[::]:8443\n" in files(Answers(address="::"))[SOCKET_DROP_IN]


def test_what_must_wait_for_the_service_is_noted_where_there_is_something() -> None:
    assert HANDOVER not in files(Answers())
    assert HANDOVER in files(Answers(client="webapp"))
    assert HANDOVER in files(Answers(certificate="request"))
