"""Configuration: what is accepted, and that every refusal names file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.access_config import JwtIssuer, Listener, PrincipalSettings
from appliance.alias_spec import FallbackSpec
from appliance.config import Config, load_config, load_models
from appliance.errors import ConfigError
from appliance.types import ModelSpec, SamplingParams
from appliance.upstream_spec import UpstreamReplica, UpstreamSpec

REPOSITORY = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


def assert_refused(load: Callable[[Path], object], path: Path, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}:{line}: ")
    assert says in str(refused.value)


def test_the_shipped_models_file_is_a_documented_example() -> None:
    """Every key of a model entry appears in it, and its entries load."""
    path = REPOSITORY / "models.yaml"
    specs = load_models(path).models
    assert specs[0].id == "demo"
    assert isinstance(specs[0], ModelSpec)
    assert Path(specs[0].path).is_file()
    text = path.read_text()
    for struct in (ModelSpec, SamplingParams, UpstreamSpec, UpstreamReplica):
        for field in struct.__struct_fields__:
            assert f"{field}:" in text, field


def test_kebab_and_snake_case_are_the_same(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "models:\n  - id: a\n    path: a.gguf\n    n-ctx: 512\n    cache-type-k: q8_0\n    n_ubatch: 64\n"
        "    flash-attn: on\n    sampling: {top-k: 3}\n",
    )
    (spec,) = load_models(path).models
    assert isinstance(spec, ModelSpec)
    assert (spec.n_ctx, spec.cache_type_k, spec.n_ubatch, spec.flash_attn, spec.sampling.top_k) == (
        *(512, "q8_0", 64),
        True,
        3,
    )
    assert spec.path == str(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("models:\n  - id: a\n    path: x\n    n-ctxx: 1\n", 4, "unknown key 'n-ctxx'; did you mean 'n_ctx'"),
        ("models:\n  - id: a\n    path: x\n    n_ctx: lots\n", 4, "n_ctx: expected a whole number, got text"),
        ("models:\n  - id: a\n    path: x\n    n_ctx: 1\n", 4, "n_ctx: expected a whole number >= 64"),
        ("models:\n  - id: a\n    path: x\n    sampling:\n      temp: 1\n", 5, "unknown key 'temp'"),
        ("models:\n  - id: a\n", 2, "path: missing"),
        ("models: {}\n", 1, "models: expected a list, got an object"),
        ("model: []\n", 1, "did you mean 'models'"),
        ("models:\n  - {id: a, path: x}\n  - {id: b, path: y, aliases: [a]}\n", 3, "'a' is already taken"),
        ("models:\n  - id: a\n    path: x\n    id: b\n", 4, "'id' appears twice"),
        ("models: [\n", 2, "not valid YAML"),
        ("models: []\n", 1, "name at least one model"),
        ("- a\n", 1, "must be a mapping"),
        ("1: x\n", 1, "keys must be plain text"),
        ("models:\n  - {id: a, path: x, n_batch: 64, n_ubatch: 128}\n", 2, "n_ubatch 128 is larger"),
        ("models:\n  - {id: a, path: x, kv: split, n_ctx: 64, parallel: 4}\n", 2, "raise n_ctx"),
        ("models:\n  - {id: 'bad id', path: x}\n", 2, "id: expected text matching"),
    ],
)
def test_refusals_name_file_line_and_key(tmp_path: Path, text: str, line: int, says: str) -> None:
    assert_refused(load_models, write(tmp_path, text), line, says)


def test_keys_of_earlier_releases_name_their_successors(tmp_path: Path) -> None:
    text = "request_log:\n  retention_days: 3\n  files-max: 2\n"
    assert_refused(
        load_config, write(tmp_path, text), 3, "'files-max' is no key any more; request_log.bytes_max is for"
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "missing.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"listeners:\n  host: \xff\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: is not UTF-8"):
        load_config(path)


ALIASED = """\
models:
  - {id: qwen-1, path: a.gguf}
  - {id: qwen-2, path: b.gguf, aliases: [second]}
aliases:
  my-chat:
    versions: {qwen-1: 95, qwen-2: 5}
    fallback: {models: [qwen-2], repeats-mib: 16, answer: Later.}
"""


def test_aliases_lead_to_versions(tmp_path: Path) -> None:
    alias = load_models(write(tmp_path, ALIASED)).aliases["my-chat"]
    assert dict(alias.versions) == {"qwen-1": 95, "qwen-2": 5}, "names keep their dashes"
    assert (alias.sticky, alias.fallback) == (
        "principal",
        FallbackSpec(models=("qwen-2",), repeats_mib=16, answer="Later."),
    )


@pytest.mark.parametrize(
    ("before", "after", "line", "says"),
    [
        ("qwen-1: 95", "qwen-3: 95", 5, "'qwen-3' is no model's id; did you mean"),
        ("models: [qwen-2]", "models: [second]", 5, "'second' is no model's id"),
        ("my-chat", "second", 5, "'second' is already taken by model 'qwen-2'"),
        ("my-chat", '"my chat"', 5, "is no name"),
        ("qwen-1: 95, qwen-2: 5", "qwen-1: 0", 6, "weight 0"),
        ("qwen-1: 95", "qwen-1: -1", 6, "versions"),
        ("repeats-mib", "repeat-mib", 7, "did you mean 'repeats_mib'?"),
        ("fallback: {", "sticky: user\n    fallbak: {", 8, "did you mean 'fallback'?"),
    ],
)
def test_a_wrong_alias_is_refused(tmp_path: Path, before: str, after: str, line: int, says: str) -> None:
    assert_refused(load_models, write(tmp_path, ALIASED.replace(before, after)), line, says)


def test_aliases_are_refused(tmp_path: Path) -> None:
    """One that contains itself would never end."""
    with pytest.raises(ConfigError, match="anchors and aliases"):
        load_models(write(tmp_path, "models: &a [*a]\n"))


def test_every_field_has_a_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == load_config(None) == Config()


def test_files_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path.resolve() / "etc"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    text = "admin: {socket: s}\naudit: {anchor: stick/anchor, siem: {format: file, target: copies, ca: ca.pem}}\n"
    write(folder, text)
    config = load_config(Path("etc/file.yaml"))
    assert config.admin.socket == str(folder / "s")
    assert config.audit.anchor == str(folder / "stick/anchor")
    siem = config.audit.siem
    assert siem is not None
    assert (siem.target, siem.ca, siem.key) == (str(folder / "copies"), str(folder / "ca.pem"), None)


def test_a_collector_and_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    text = "audit: {anchor: /mnt/anchor, siem: {format: syslog, target: 'siem:6514'}}\n"
    audit = load_config(write(tmp_path, text)).audit
    assert audit.anchor == "/mnt/anchor"
    assert audit.siem is not None
    assert audit.siem.target == "siem:6514"


def test_a_nested_mistake_in_the_daemon_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":3: unknown key 'prot'; did you mean 'port'"):
        load_config(write(tmp_path, "# comment\nlisteners: {api: {\n  prot: 1}}\n"))


# Sections that are mappings or lists: the defaults of one entry.
_SHOWN = {
    "listeners": Listener(),
    "principals": PrincipalSettings(),
    "jwt": JwtIssuer(issuer="a", audience="b", keys=("c",)),
}
_REQUIRED = {("jwt", "issuer"), ("jwt", "audience"), ("jwt", "keys")}


def test_the_reference_has_every_field_with_its_default() -> None:
    text = (REPOSITORY / "docs" / "CONFIGURATION.md").read_text()
    for section in Config.__struct_fields__:
        assert f"\n## {section}\n" in text
        _, _, rest = text.partition(f"\n## {section}\n")
        table = rest.partition("\n## ")[0]
        defaults = _SHOWN.get(section) or getattr(Config(), section)
        written = {
            line.split("|")[1].strip(" `"): line.split("|")[2].strip()
            for line in table.splitlines()
            if line.startswith("| `")
        }
        assert list(written) == list(defaults.__struct_fields__)
        for name, value in written.items():
            default = getattr(defaults, name)
            if (section, name) in _REQUIRED:
                default = "required"
            match default:
                case True | False:
                    shown = str(default).lower()
                case {}:
                    shown = "{}"
                case (*items,) if items:
                    shown = f"[{', '.join(items)}]"
                case None:
                    shown = ""
                case ():
                    shown = "[]"
                case float():
                    shown = f"{default:g}"
                case _:
                    shown = str(default)
            assert value == shown, (section, name)


def test_principals_keep_their_names(tmp_path: Path) -> None:
    text = "principals:\n  dify-hr: {priority: 10, weight: 2, cache-group: hr-team}\n  nightly: {}\n"
    assert load_config(write(tmp_path, text)).principals == {
        "dify-hr": PrincipalSettings(priority=10, weight=2.0, cache_group="hr-team"),
        "nightly": PrincipalSettings(priority=50, weight=1.0, cache_group=None),
    }


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("principals:\n  a: {}\n  b-c:\n    wieght: 2\n", 4, "unknown key 'wieght'; did you mean 'weight'"),
        ("principals:\n  a: {}\n  b-c:\n    priority: 101\n", 4, "principals.b-c.priority: expected a whole number <="),
        ("principals:\n  b:\n    priority: high\n", 3, "principals.b.priority: expected a whole number, got text"),
        ("principals:\n  b:\n    weight: 0\n", 3, "principals.b.weight: expected a number >= 0.01"),
        ("principals:\n  b:\n    cache_group: No Spaces\n", 3, "cache_group: expected text matching"),
        ("principals:\n  a: {}\n  b:\n", 3, "principals.b: expected an object, got null"),
        ("principals:\n  a: {}\n  B_c: {}\n", 3, "'B_c' is no client's name"),
        ("principals:\n  a.b: {}\n", 2, "'a.b' is no client's name"),
        ("principals:\n  a: {}\n  a: {}\n", 3, "'a' appears twice"),
        ("principals: [a]\n", 1, "principals: expected an object, got a list"),
        ("principal: {}\n", 1, "did you mean 'principals'"),
    ],
)
def test_mistakes_in_principals(tmp_path: Path, text: str, line: int, says: str) -> None:
    assert_refused(load_config, write(tmp_path, text), line, says)


def test_a_bias_in_the_models_file(tmp_path: Path) -> None:
    path = write(tmp_path, "models:\n  - {id: a, path: x, sampling: {logit_bias: {'15': -100}}}\n")
    (spec,) = load_models(path).models
    assert isinstance(spec, ModelSpec)
    assert spec.sampling.logit_bias == {15: -100.0}
