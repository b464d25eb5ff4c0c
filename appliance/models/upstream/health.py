"""Whether a server is fit to serve a model: asked for its list of models, or at the path that models.yaml names."""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec
from aiohttp import ClientSession, ClientTimeout
from msgspec import Struct

from appliance.models.upstream.exchange import authorization, why
from appliance.models.upstream.replica import Replica
from appliance.safe_text import safe_text
from appliance.upstream_spec import ReplicaAccess, UpstreamSpec

ANSWER_SECONDS_MAX: Final = 5.0
LIST_BYTES_MAX: Final = 2**20
_NAMES_SHOWN: Final = 5


class _Meta(Struct, frozen=True):
    """An appliance's and llama-server's."""

    n_ctx: int | None = None
    n_ctx_train: int | None = None


class _Model(Struct, frozen=True):
    """max_model_len: vLLM's."""

    id: str
    aliases: list[str] | None = None
    max_model_len: int | None = None
    meta: _Meta | None = None


class _Models(Struct, frozen=True):
    data: list[_Model]


_models: Final = msgspec.json.Decoder(_Models)


class Unhealthy(Exception):
    """reason: for the operator. silent: there was no answer in time, which a busy server may have no time for."""

    def __init__(self, reason: str, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.silent = silent


async def check_health(
    session: ClientSession, replica: Replica, access: ReplicaAccess, spec: UpstreamSpec
) -> int | None:
    """Most tokens of one request, where the server tells. Raises Unhealthy."""
    path = "/models" if spec.health_path is None else spec.health_path
    url = replica.base_url + path if spec.health_path is None else replica.origin + path
    timeout = ClientTimeout(total=spec.connect_seconds + ANSWER_SECONDS_MAX, connect=spec.connect_seconds)
    try:
        async with session.get(
            url,
            headers=authorization(access),
            ssl=access.context or True,
            timeout=timeout,
            allow_redirects=False,
        ) as answer:
            if not 200 <= answer.status < 300:
                raise Unhealthy(_refusal(answer.status, path))
            if spec.health_path is not None:
                return None
            body = await answer.content.read(LIST_BYTES_MAX)
            while not answer.content.at_eof() and len(body) <= LIST_BYTES_MAX:
                body += await answer.content.readany()
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
        raise Unhealthy(f"cannot be reached: {why(error)}") from error
    except TimeoutError as error:
        raise Unhealthy("does not answer in time", silent=True) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unhealthy(f"ended the connection: {why(error)}") from error
    return context_of(body, spec.model or spec.id)


def context_of(body: bytes, model: str) -> int | None:
    """From a list of models, most tokens of a request for `model`. Raises Unhealthy where it is not in it. Pure."""
    try:
        listed = _models.decode(body).data
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unhealthy("answers with no list of models; name another health_path") from error
    for entry in listed:
        if model == entry.id or model in (entry.aliases or ()):
            meta = entry.meta or _Meta()
            return entry.max_model_len or meta.n_ctx or meta.n_ctx_train
    names = ", ".join(repr(safe_text(entry.id)) for entry in listed[:_NAMES_SHOWN]) or "none"
    raise Unhealthy(f"does not serve {model!r}; it serves: {names}")


def _refusal(status: int, path: str) -> str:
    if status in (401, 403):
        return f"refuses our key or certificate ({status})"
    if status == 404:
        return f"knows no {path} (404); name another health_path"
    return f"answers {status} at {path}"
