from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.errors import ConfigError
from appliance.first_run.answers import Answers, read_answers


def test_the_example_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_bytes(msgspec.yaml.encode(Answers()))
    assert read_answers(path) == Answers()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot: 1", "prot"),
        ("port: 0", "port"),
        ("address: localhost", "no IP address"),
        ("model_dir: models", "absolute"),
        ("model_dir: /a b", "without spaces"),
        ("administrators: {Anna!: [operator]}", "administrators"),
        ("administrators: {anna: [king]}", "administrators"),
        ("names: ['a b']", "names"),
        ("key_encryption: none", "key_encryption"),
        ("certificate: request", "at least one name"),
        ("models: [{id: a, file: ../a.gguf}]", "file"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_answers(path)


def test_names_of_users_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_text("model-dir: /m\nadministrators: {web-admin: [operator]}")
    assert read_answers(path).administrators == {"web-admin": ("operator",)}


@pytest.mark.parametrize("name", ["INSTALL.md", "INSTALL.zh.md"])
def test_every_answer_is_in_the_document(name: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / name).read_text()
    table = text[text.index("| answers.yaml |") :]
    assert [field for field in Answers.__struct_fields__ if f"`{field}`" not in table] == []
