"""What a Dify operator needs beside a client bundle: nginx.conf, docker-compose.override.yaml and DIFY.md.

No Dify plugin can present a client certificate. So either an nginx beside Dify does it (`sidecar`), or the listener is
in mode `key` and Dify is told to trust the appliance's authority. The files refer to those of the bundle (`client.crt`,
`client.key`, `ca.crt`, `api.key`) and hold no secret themselves. The texts are in `dify/`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import yaml

from appliance.access_config import ApiKeys, ListenerMode
from appliance.errors import ConfigError
from appliance.security.identity import CLIENT_NAME
from appliance.security.server_names import is_dns_name
from appliance.types import ModelInfo, ModelKind
from appliance.upstream_spec import ServedModel, UpstreamSpec

SIDECAR: Final = "llm-sidecar"
SIDECAR_PORT: Final = 8080
# Dify's own compose file runs this image, so a host without internet has it.
SIDECAR_IMAGE: Final = "nginx:latest"
HOST_FOLDER: Final = "./llm"
CONTAINER_FOLDER: Final = "/appliance"
MODELS_MAX: Final = 1000
# `kv: auto` gives each slot its own cells where they are at least as many.
_SPLIT_CELLS_MIN: Final = 8192
# Of a model that another server serves and whose n_ctx models.yaml does not name.
_UPSTREAM_CONTEXT: Final = 8192
# As Dify's form calls them.
_MODEL_TYPES: Final[Mapping[ModelKind, str]] = {"chat": "LLM", "embedding": "Text Embedding", "rerank": "Rerank"}
_DEFAULT_GRACE_HOURS: Final = ApiKeys().grace_hours

_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_BLANK = re.compile(r"%\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listener as Dify's host reaches it.

    host: a name with one address, or an address; one of the server certificate's names, which the caller checks.
    tls_name: the DNS name of the server certificate that nginx verifies. None: `host`, or `localhost` where `host` is
    an address, because nginx compares no addresses and every server certificate of the appliance names localhost.
    """

    host: str
    port: int
    mode: ListenerMode
    tls_name: str | None = None


@dataclass(frozen=True, slots=True)
class DifyModel:
    """One model as Dify's form wants it. n_ctx: most tokens of one request; max_tokens: of one answer."""

    id: str
    n_ctx: int
    max_tokens: int
    kind: ModelKind = "chat"

    @classmethod
    def of(cls, spec: ServedModel, info: ModelInfo | None = None, kind: ModelKind = "chat") -> DifyModel:
        """From models.yaml, and exactly where `info` says what the model's worker found.

        Without it n_ctx may be more than the model was trained for, which models.yaml does not say. kind: what it is
        for, as long as there is no `info`.
        """
        if info is not None:
            kind = info.kind
        n_ctx = info.n_ctx if info is not None else _configured_context(spec, kind)
        return cls(spec.id, n_ctx, n_ctx // 2, kind)

    @classmethod
    def narrowest(cls, name: str, models: Sequence[DifyModel]) -> DifyModel:
        """A name that any of `models` may answer for."""
        n_ctx = min(model.n_ctx for model in models)
        return cls(name, n_ctx, n_ctx // 2, models[0].kind)


def dify_files(
    client: str,
    endpoint: Endpoint,
    models: Sequence[DifyModel],
    *,
    sidecar: bool,
    key_grace_hours: float = _DEFAULT_GRACE_HOURS,
) -> Mapping[str, bytes]:
    """File names and contents, to be put beside the bundle of `client`. Pure.

    sidecar: with nginx in between, for any mode; without one the listener must be in mode `key`. Raises ConfigError for
    what cannot be written safely into these files, and for a listener that Dify could not reach this way.
    """
    _check(client, endpoint, models)
    if not sidecar and endpoint.mode != "key":
        raise ConfigError(
            f"a listener in mode {endpoint.mode!r} asks for a client certificate, which Dify cannot present; "
            "use the sidecar, or a listener in mode 'key'"
        )
    values = _values(client, endpoint, models, sidecar, key_grace_hours)
    steps = "with-sidecar.md" if sidecar else "without-sidecar.md"
    files = {
        "DIFY.md": _fill(steps, values) + _fill("form.md", values),
        "docker-compose.override.yaml": _compose_file(endpoint, sidecar=sidecar),
    }
    if sidecar:
        files["nginx.conf"] = _fill("nginx.conf", values)
    return {name: text.encode() for name, text in files.items()}


def _configured_context(spec: ServedModel, kind: ModelKind) -> int:
    if isinstance(spec, UpstreamSpec):
        return spec.n_ctx or _UPSTREAM_CONTEXT
    if kind != "chat":
        return spec.n_ctx
    slot = spec.n_ctx // spec.parallel
    split = spec.kv == "split" or (spec.kv == "auto" and slot >= _SPLIT_CELLS_MIN)
    return slot if split else spec.n_ctx


def _check(client: str, endpoint: Endpoint, models: Sequence[DifyModel]) -> None:
    """Everything that ends up in a file whose syntax it could break."""
    if not CLIENT_NAME.fullmatch(client):
        raise ConfigError(f"{client!r} is no client name")
    if _address(endpoint.host) is None and not _is_host_name(endpoint.host):
        raise ConfigError(
            f"{endpoint.host!r} is neither a host name nor an address; write it without scheme, port and scope"
        )
    if endpoint.tls_name is not None and not _is_host_name(endpoint.tls_name):
        raise ConfigError(f"{endpoint.tls_name!r} is no DNS name; nginx can verify nothing else")
    if not 1 <= endpoint.port <= 65535:
        raise ConfigError(f"port {endpoint.port} is not between 1 and 65535")
    if not 1 <= len(models) <= MODELS_MAX:
        raise ConfigError(f"{len(models)} models; name 1 to {MODELS_MAX}")
    for model in models:
        _check_model(model)


def _check_model(model: DifyModel) -> None:
    if not _MODEL_ID.fullmatch(model.id):
        raise ConfigError(f"{model.id!r} is no model id: at most 128 of letters, digits and . _ : / -")
    if not 1 <= model.max_tokens <= model.n_ctx:
        raise ConfigError(f"{model.id}: max_tokens {model.max_tokens} is not between 1 and n_ctx, {model.n_ctx}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without a scope: a scope may hold any character, and no certificate names one."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_host_name(text: str) -> bool:
    return is_dns_name(text) and not text.startswith("*")


def _values(
    client: str,
    endpoint: Endpoint,
    models: Sequence[DifyModel],
    sidecar: bool,
    key_grace_hours: float,
) -> dict[str, str]:
    """What the texts leave open."""
    address = _address(endpoint.host)
    host = f"[{address}]" if address is not None and address.version == 6 else endpoint.host
    authority = f"{host}:{endpoint.port}"
    origin = f"http://{SIDECAR}:{SIDECAR_PORT}" if sidecar else f"https://{authority}"
    certified = endpoint.mode != "key"
    return {
        "client": client,
        "host": endpoint.host,
        "authority": authority,
        "tls_name": endpoint.tls_name or ("localhost" if address is not None else endpoint.host),
        "origin": origin,
        "base_url": f"{origin}/v1",
        "port": str(SIDECAR_PORT),
        "image": SIDECAR_IMAGE,
        "folder": CONTAINER_FOLDER,
        "client_certificate": _CLIENT_CERTIFICATE if certified else "",
        "certificate_files": " BUNDLE/client.crt BUNDLE/client.key" if certified else "",
        "api_key": "the text in `api.key` of this bundle" if endpoint.mode != "cert" else "empty",
        "models": "\n".join(map(_row, models)),
        "grace": f"{key_grace_hours:g} hours",
    }


def _row(model: DifyModel) -> str:
    max_tokens = f"{model.max_tokens}" if model.kind == "chat" else ""
    return f"| `{model.id}` | {_MODEL_TYPES[model.kind]} | {model.n_ctx} | {max_tokens} |"


_CLIENT_CERTIFICATE: Final = (
    f"      proxy_ssl_certificate {CONTAINER_FOLDER}/client.crt;\n"
    f"      proxy_ssl_certificate_key {CONTAINER_FOLDER}/client.key;\n"
)


def _compose_file(endpoint: Endpoint, *, sidecar: bool) -> str:
    """docker-compose.override.yaml; every string in it is checked, and so holds no `$` that compose would replace."""
    target = SIDECAR if sidecar else endpoint.host
    environment = {"NO_PROXY": f"{target},api,localhost,127.0.0.1", "MAX_REQUEST_TIMEOUT": "600"}
    if sidecar:
        services = {
            SIDECAR: _sidecar_service(),
            # `default` is where it is without this file; the other network has nobody but these two.
            "plugin_daemon": {"environment": environment, "networks": ["default", "llm"]},
        }
        content = {"services": services, "networks": {"llm": {}}}
    else:
        bundle = f"{CONTAINER_FOLDER}/ca.crt"
        environment |= {"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle}
        volume = _read_only(f"{HOST_FOLDER}/ca.crt", bundle)
        content = {"services": {"plugin_daemon": {"environment": environment, "volumes": [volume]}}}
    return "# Lies beside Dify's docker-compose.yaml; DIFY.md says how it is used.\n" + yaml.safe_dump(
        content, sort_keys=False
    )


def _sidecar_service() -> dict[str, object]:
    """Root in a container that can change nothing: it reads the key (0600, another user's) and becomes `nginx`."""
    return {
        "image": SIDECAR_IMAGE,
        "command": ["nginx", "-c", f"{CONTAINER_FOLDER}/nginx.conf", "-g", "daemon off;"],
        "restart": "always",
        "volumes": [_read_only(HOST_FOLDER, CONTAINER_FOLDER)],
        "networks": ["llm"],
        "read_only": True,
        "tmpfs": ["/tmp:size=16m"],
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"],
        "security_opt": ["no-new-privileges:true"],
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }


def _read_only(source: str, target: str) -> dict[str, object]:
    """A mount that fails where the source is missing, instead of an empty folder in its place."""
    return {
        "type": "bind",
        "source": source,
        "target": target,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def _fill(name: str, values: Mapping[str, str]) -> str:
    """A text of `dify/` with every `%{name}` filled in; `$` is nginx's and the shell's."""
    text = resources.files("appliance.security").joinpath("dify", name).read_text(encoding="utf-8")
    return _BLANK.sub(lambda blank: values[blank[1]], text)
