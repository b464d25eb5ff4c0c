"""appliance.upstream_spec, as models.yaml has it"""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import fields

from appliance.config import load_models
from appliance.errors import ConfigError
from appliance.types import ModelSpec
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec


def write(folder: Path, entry: str) -> Path:
    path = folder / "models.yaml"
    path.write_text(
        f"models:\n  - id: ours\n    path: a.gguf\n    engine: llama\n  - id: m\n    engine: upstream\n{entry}"
    )
    return path


def replica(fields: str) -> str:
    return f"    replicas:\n      - {fields}\n"


def test_an_entry_of_either_engine(tmp_path: Path) -> None:
    entry = replica("{base-url: 'https://a:8000/v1', key-file: keys/a, ca: /etc/ca.crt}") + "    model: meta/Llama 3\n"
    ours, other = load_models(write(tmp_path, entry)).models
    assert isinstance(ours, ModelSpec)
    assert isinstance(other, UpstreamSpec)
    assert (other.model, other.preload, other.cache_salt, other.connect_seconds) == ("meta/Llama 3", False, True, 5.0)
    (one,) = other.replicas
    assert (one.key_file, one.ca, one.certificate) == (str(tmp_path.resolve() / "keys/a"), "/etc/ca.crt", None)


@pytest.mark.parametrize(
    "url",
    [
        "https://gpu1.example/v1",
        "https://[2001:db8::1]:8000/v1",
        "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1",
        "http://localhost:11434/v1",
    ],
)
def test_good_addresses(tmp_path: Path, url: str) -> None:
    load_models(write(tmp_path, replica(f"base_url: '{url}'")))


def test_plaintext_where_it_is_wanted(tmp_path: Path) -> None:
    load_models(write(tmp_path, replica("{base_url: 'http://10.0.0.7:8000/v1', allow_plaintext: true}")))


@pytest.mark.parametrize(
    ("entry", "line", "says"),
    [
        (replica("base_url: http://10.0.0.7:8000/v1"), 8, "is not encrypted; write https, or allow_plaintext: true"),
        (replica("base_url: http://localhost.evil/v1"), 8, "is not encrypted"),
        (replica("base_url: https://user:pw@a/v1"), 8, "a key belongs into key_file"),
        (replica("base_url: https://a/v1?key=x"), 8, "a key belongs into key_file"),
        (replica("base_url: a:8000"), 8, "is no address"),
        (replica("base_url: ftp://a/v1"), 8, "is no address"),
        (replica("base_url: https:///v1"), 8, "is no address"),
        (replica("base_url: 'https://a b/v1'"), 8, "is no address"),
        (replica("base_url: https://a:port/v1"), 8, "is no URL"),
        (replica("base_url: 'https://[::1/v1'"), 8, "is no URL"),
        (replica("{base_url: 'https://a/v1', certificate: c}"), 8, "go together"),
        (replica("{base_url: 'https://a/v1', private_key: k}"), 8, "go together"),
        (replica("{base_url: 'http://127.0.0.1/v1', ca: c}"), 8, "plain HTTP, where ca"),
        (replica("{base_url: 'https://a/v1', key: sk-123}"), 8, "unknown key 'key'"),
        (replica("key_file: k"), 8, "base_url: missing"),
        ("    replicas: []\n", 7, "replicas: expected a list of"),
        ("    path: x\n", 7, "unknown key 'path'"),
        ("", 5, "replicas: missing"),
        (replica("base_url: https://a/v1") + "    health_path: health\n", 9, "health_path: expected text matching"),
    ],
)
def test_refusals_name_file_line_and_key(tmp_path: Path, entry: str, line: int, says: str) -> None:
    path = write(tmp_path, entry)
    with pytest.raises(ConfigError) as refused:
        load_models(path)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert says in str(refused.value)
    assert "sk-123" not in str(refused.value)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("engine", ["vllm", "1", "null", "[a]"])
def test_an_engine_that_is_none(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(f"models:\n  - id: a\n    engine: {engine}\n    path: x\n")
    with pytest.raises(ConfigError, match=r"models.yaml:3: engine: .* is none; known: llama, upstream"):
        load_models(path)


@pytest.mark.parametrize("struct", [UpstreamSpec, UpstreamReplica])
def test_the_reference_has_every_field_with_its_default(struct: type[Struct]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "CONFIGURATION.md").read_text()
    table = text.partition("## Upstream models")[2].partition("\n## ")[0]
    if struct is UpstreamReplica:
        table = table.partition("Each of `replicas`")[2]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    written = {row[1].strip(" `"): row[2].strip() for row in rows}
    for field in fields(struct):
        if field.required:
            assert written[field.name] == "required"
            continue
        match field.default:
            case True | False:
                shown = str(field.default).lower()
            case None:
                shown = ""
            case ():
                shown = "[]"
            case _:
                shown = f"{field.default:g}"
        assert written[field.name] == shown, field.name


def test_names_are_unique_across_engines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'ours' is already taken"):
        load_models(write(tmp_path, replica("base_url: https://a/v1") + "    aliases: [ours]\n"))
