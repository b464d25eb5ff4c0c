"""A model that another OpenAI-compatible server serves: its entry in models.yaml, and what a connection to it needs."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from appliance.access_config import Seconds
from appliance.types import ModelId, ModelSpec

REPLICAS_MAX: Final = 64
FilePath = Annotated[str, Meta(min_length=1, max_length=4096)]


class UpstreamReplica(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server. base_url: up to and with `/v1`, without a password, query or fragment.

    key_file: its API key, in a file that only the service can read. ca: PEM, who signs its certificate; by default
    those that the system trusts. certificate, private_key: PEM, what we show it. allow_plaintext: http to another
    host. Files are relative to models.yaml; changed ones count within `probe_seconds`.
    """

    base_url: Annotated[str, Meta(min_length=1, max_length=2048)]
    key_file: FilePath | None = None
    ca: FilePath | None = None
    certificate: FilePath | None = None
    private_key: FilePath | None = None
    allow_plaintext: bool = False


class UpstreamSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of models.yaml with `engine: upstream`.

    replicas: servers of the same model; a request goes to the one that has fewest of ours.
    model: its name there; by default the id.
    n_ctx: most tokens of one request, for /v1/models and Dify's sheet; by default what the server says.
    cache_salt: sends a `cache_salt` per cache domain, so that vLLM and appliances share no prompts across it; false for
    a server that refuses fields it does not know.
    health_path: what a healthy server answers with 2xx; by default the list of models, which must name `model`.
    connect_seconds: for TCP and TLS. idle_seconds: silence of a stream that has begun. probe_seconds: how often the
    health is asked for.
    preload: /readyz waits until a replica is up.
    """

    id: ModelId
    replicas: Annotated[tuple[UpstreamReplica, ...], Meta(min_length=1, max_length=REPLICAS_MAX)]
    aliases: Annotated[tuple[ModelId, ...], Meta(max_length=32)] = ()
    model: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    n_ctx: Annotated[int, Meta(ge=64, le=16_777_216)] | None = None
    cache_salt: bool = True
    health_path: Annotated[str, Meta(pattern="^/[!-~]{0,1023}$")] | None = None
    connect_seconds: Seconds = 5.0
    idle_seconds: Seconds = 120.0
    probe_seconds: Seconds = 10.0
    preload: bool = False


ServedModel = ModelSpec | UpstreamSpec


@dataclass(frozen=True, slots=True)
class ReplicaAccess:
    """What a request to a replica carries. authorization: the header. context: None for plain HTTP."""

    authorization: str | None = None
    context: ssl.SSLContext | None = None


def base_url_fault(replica: UpstreamReplica) -> str | None:
    """What is wrong with a replica's address, and what to do; None where it is good."""
    try:
        url = urlsplit(replica.base_url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        return f"is no URL: {error}"
    if url.scheme not in ("https", "http") or not host or not replica.base_url.isascii() or " " in replica.base_url:
        return "is no address; write https://gpu1.example:8000/v1"
    if url.username is not None or url.query or url.fragment:
        return "holds more than host, port and path; a key belongs into key_file"
    if url.scheme == "http" and not is_loopback(host) and not replica.allow_plaintext:
        return "is not encrypted; write https, or allow_plaintext: true where the network is trusted"
    if url.scheme == "http" and (replica.ca or replica.certificate or replica.private_key):
        return "is plain HTTP, where ca, certificate and private_key mean nothing; write https or leave them out"
    return None


def is_loopback(host: str) -> bool:
    """Whether it is this host for certain: what is sent there in the clear nobody else sees."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
