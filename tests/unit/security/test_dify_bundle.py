"""appliance.security.dify_bundle"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from appliance.access_config import ListenerMode
from appliance.errors import ConfigError
from appliance.security.dify_bundle import DifyModel, Endpoint, dify_files
from appliance.types import ModelInfo, ModelSpec

MODELS = [DifyModel("demo", 8192, 4096), DifyModel("qwen/qwen2.5-7b:q4_k_m", 32768, 8192)]
MUTUAL = Endpoint("llm.example.lan", 8443, "cert_and_key")
KEY_ONLY = Endpoint("llm.example.lan", 8443, "key")


def files(endpoint: Endpoint = MUTUAL, *, sidecar: bool = True, **options: Any) -> dict[str, str]:
    made = dify_files("dify", endpoint, MODELS, sidecar=sidecar, **options)
    return {name: data.decode() for name, data in made.items()}


def directives(conf: str) -> list[str]:
    """The lines of nginx.conf without comments and closing marks."""
    return [line for text in conf.splitlines() if (line := text.partition("#")[0].strip().removesuffix(";"))]


def test_the_sidecar_verifies_the_server_and_buffers_nothing() -> None:
    conf = files()["nginx.conf"]
    assert "%{" not in conf
    assert set(directives(conf)) >= {
        "listen 8080",
        "server llm.example.lan:8443",
        "keepalive 32",
        "client_max_body_size 64m",
        "proxy_pass https://appliance",
        "proxy_http_version 1.1",
        'proxy_set_header Connection ""',
        "proxy_buffering off",
        "proxy_request_buffering off",
        "proxy_read_timeout 3600s",
        "proxy_next_upstream off",
        "proxy_ssl_protocols TLSv1.3",
        "proxy_ssl_verify on",
        "proxy_ssl_trusted_certificate /appliance/ca.crt",
        "proxy_ssl_certificate /appliance/client.crt",
        "proxy_ssl_certificate_key /appliance/client.key",
        "proxy_ssl_name llm.example.lan",
        "proxy_ssl_server_name on",
    }


def test_nothing_a_user_wrote_is_logged_by_the_sidecar() -> None:
    conf = files()["nginx.conf"]
    (log_format,) = (part for part in conf.split(";") if "log_format" in part)
    for variable in ("$request ", "$request_uri", "$args", "$query_string", "$request_body", "$http_"):
        assert variable not in log_format


@pytest.mark.parametrize(
    ("endpoint", "server", "name"),
    [
        (MUTUAL, "llm.example.lan:8443", "llm.example.lan"),
        (Endpoint("192.0.2.7", 443, "cert"), "192.0.2.7:443", "localhost"),
        (Endpoint("2001:db8::7", 443, "cert"), "[2001:db8::7]:443", "localhost"),
        (Endpoint("192.0.2.7", 443, "cert", tls_name="llm.lan"), "192.0.2.7:443", "llm.lan"),
    ],
)
def test_an_address_is_verified_by_a_name(endpoint: Endpoint, server: str, name: str) -> None:
    conf = directives(files(endpoint)["nginx.conf"])
    assert f"server {server}" in conf
    assert f"proxy_ssl_name {name}" in conf


@pytest.mark.parametrize("mode", ["cert_and_key", "cert", "key"])
def test_the_certificate_and_the_key_are_where_the_mode_needs_them(mode: ListenerMode) -> None:
    made = files(Endpoint("llm.lan", 8443, mode))
    assert ("proxy_ssl_certificate" in made["nginx.conf"].replace("proxy_ssl_certificate_", "")) == (mode != "key")
    assert ("BUNDLE/client.key" in made["DIFY.md"]) == (mode != "key")
    assert ("| API Key | API Key | empty |" in made["DIFY.md"]) == (mode == "cert")


def test_the_sidecar_s_service() -> None:
    content = yaml.safe_load(files()["docker-compose.override.yaml"])
    sidecar = content["services"].pop("llm-sidecar")
    assert content == {
        "services": {
            "plugin_daemon": {
                "environment": {"NO_PROXY": "llm-sidecar,api,localhost,127.0.0.1", "MAX_REQUEST_TIMEOUT": "600"},
                "networks": ["default", "llm"],
            }
        },
        "networks": {"llm": {}},
    }
    assert "ports" not in sidecar
    assert sidecar["networks"] == ["llm"]
    assert sidecar["command"] == ["nginx", "-c", "/appliance/nginx.conf", "-g", "daemon off;"]
    assert sidecar["volumes"] == [
        {
            "type": "bind",
            "source": "./llm",
            "target": "/appliance",
            "read_only": True,
            "bind": {"create_host_path": False},
        }
    ]
    assert (sidecar["restart"], sidecar["read_only"], sidecar["cap_drop"]) == ("always", True, ["ALL"])


def test_without_a_sidecar_dify_is_told_whom_to_trust() -> None:
    made = files(KEY_ONLY, sidecar=False)
    assert set(made) == {"DIFY.md", "docker-compose.override.yaml"}
    content = yaml.safe_load(made["docker-compose.override.yaml"])
    assert set(content["services"]) == {"plugin_daemon"}
    daemon = content["services"]["plugin_daemon"]
    assert daemon["environment"] == {
        "NO_PROXY": "llm.example.lan,api,localhost,127.0.0.1",
        "MAX_REQUEST_TIMEOUT": "600",
        "REQUESTS_CA_BUNDLE": "/appliance/ca.crt",
        "SSL_CERT_FILE": "/appliance/ca.crt",
    }
    assert [(volume["source"], volume["target"]) for volume in daemon["volumes"]] == [
        ("./llm/ca.crt", "/appliance/ca.crt")
    ]
    assert "`https://llm.example.lan:8443/v1`" in made["DIFY.md"]
    assert "sidecar curl" not in made["DIFY.md"]


@pytest.mark.parametrize("mode", ["cert_and_key", "cert"])
def test_without_a_sidecar_no_certificate_can_be_asked_for(mode: ListenerMode) -> None:
    with pytest.raises(ConfigError, match="use the sidecar, or a listener in mode 'key'"):
        files(Endpoint("llm.lan", 8443, mode), sidecar=False)


@pytest.mark.parametrize(("endpoint", "sidecar"), [(MUTUAL, True), (KEY_ONLY, False)])
def test_the_sheet_has_every_model_and_no_blank(endpoint: Endpoint, sidecar: bool) -> None:
    sheet = files(endpoint, sidecar=sidecar, key_grace_hours=72)["DIFY.md"]
    assert "%{" not in sheet
    for model in MODELS:
        assert f"| `{model.id}` | LLM | {model.n_ctx} | {model.max_tokens} |" in sheet
    assert "both work for 72 hours" in sheet
    assert [line for line in sheet.splitlines() if line.startswith("## ")] == [
        "## 1. Place the files",
        "## 2. Check from inside",
        "## 3. The plugin",
        "## 4. The form",
        "## 5. When the key changes",
        "## 6. What failures look like",
    ]


HOSTILE_HOSTS = [
    *(
        "",
        " ",
        "a b",
        "a;",
        "a;}",
        "a\n",
        "a\nb",
        "a{",
        'a"',
        "a'",
        "a$b",
        "${x}",
        "a|b",
        "a`b",
        "-a",
        "a-",
        "a..b",
        "a.",
    ),
    *("https://a", "a:8443", "[::1]", "fe80::1%eth0", "fe80::1%a; }", "::1%", "1.2.3", "256.1.1.1", "*.a", "ü.lan"),
    *("a" * 64, ".".join(["a" * 60] * 5)),
]


@pytest.mark.parametrize("host", HOSTILE_HOSTS)
def test_a_host_that_would_break_a_file_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="neither a host name nor an address"):
        files(Endpoint(host, 8443, "cert_and_key"))
    with pytest.raises(ConfigError, match="is no DNS name"):
        files(Endpoint("llm.lan", 8443, "cert_and_key", tls_name=host))


@given(host=st.text(max_size=20))
def test_a_host_is_plain_or_refused(host: str) -> None:
    try:
        made = files(Endpoint(host, 8443, "key"), sidecar=False)
    except ConfigError:
        return
    content = yaml.safe_load(made["docker-compose.override.yaml"])
    environment = content["services"]["plugin_daemon"]["environment"]
    assert environment["NO_PROXY"] == f"{host},api,localhost,127.0.0.1"
    assert host.isascii()
    assert not set(host) & set(" \t\r\n;{}'\"\\$%#`|")


@pytest.mark.parametrize("name", ["a\n", "a;b", "", "A", "a" * 129])
def test_a_client_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no client name"):
        dify_files(name, MUTUAL, MODELS, sidecar=True)


@pytest.mark.parametrize(
    "model",
    [
        *(DifyModel(name, 8192, 4096) for name in ("", "a|b", "a`", "a\n", "a b", "-a", "a" * 129)),
        *(DifyModel("a", *sizes) for sizes in ((8192, 0), (8192, 8193), (0, 0))),
    ],
    ids=str,
)
def test_a_model_that_is_none_is_refused(model: DifyModel) -> None:
    with pytest.raises(ConfigError):
        dify_files("dify", MUTUAL, [model], sidecar=True)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="not between"):
        files(Endpoint("llm.lan", port, "cert_and_key"))


def test_a_list_of_models_has_a_bound() -> None:
    for models in ([], MODELS * 501):
        with pytest.raises(ConfigError, match="name 1 to 1000"):
            dify_files("dify", MUTUAL, models, sidecar=True)


@pytest.mark.parametrize(
    ("kv", "n_ctx", "parallel", "expected"),
    [
        ("unified", 16384, 4, 16384),
        ("split", 16384, 4, 4096),
        ("auto", 16384, 4, 16384),
        ("auto", 65536, 4, 16384),
        ("auto", 8192, 1, 8192),
    ],
)
def test_the_context_of_one_request_follows_models_yaml(kv: Any, n_ctx: int, parallel: int, expected: int) -> None:
    spec = ModelSpec(id="m", path="/m.gguf", kv=kv, n_ctx=n_ctx, parallel=parallel)
    assert DifyModel.of(spec) == DifyModel("m", expected, expected // 2)


def test_what_the_worker_found_counts_more() -> None:
    info = ModelInfo(
        architecture="a",
        description="d",
        parameters=1,
        size_bytes=1,
        n_vocab=1,
        n_ctx=2048,
        n_ctx_total=8192,
        n_ctx_train=2048,
        parallel=4,
        kv="unified",
        gpu_layers=0,
        chat_template=True,
        engine_build="test",
        load_seconds=1.0,
    )
    assert DifyModel.of(ModelSpec(id="m", path="/m.gguf"), info) == DifyModel("m", 2048, 1024)


def test_the_sheet_says_what_each_model_is_for() -> None:
    models = [
        DifyModel.of(ModelSpec(id="chat", path="m.gguf", n_ctx=4096)),
        DifyModel.of(ModelSpec(id="vectors", path="m.gguf", n_ctx=512), kind="embedding"),
        DifyModel.of(ModelSpec(id="ranks", path="m.gguf", n_ctx=512), kind="rerank"),
    ]
    sheet = dify_files("dify", Endpoint("llm.lan", 8443, "cert_and_key"), models, sidecar=True)["DIFY.md"].decode()
    assert "| `chat` | LLM | 4096 | 2048 |" in sheet
    assert "| `vectors` | Text Embedding | 512 |  |" in sheet
    assert "| `ranks` | Rerank | 512 |  |" in sheet
