"""Hostile bodies and fields over mutual TLS: a real status, one error shape, never a 500.

What `tests/api/test_chat.py` and `tests/e2e/test_bad_input.py` already ask is not asked again.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from appliance.state_dir import StateDir
from tests.security.gated_api import GatedApi, check_error, shared_api

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
BODY = b'{"model": "demo", "prompt": "say:x"}'
BOMB = gzip.compress(bytes(64 * MIB), 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatedApi]:
    async with shared_api(StateDir(tmp_path_factory.mktemp("bodies") / "state")) as api:
        yield api


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "encodings", [(b"gzip",), (b"GZIP",), (b"br",), (b"gzip, identity",), (b"identity", b"gzip")], ids=str
)
async def test_compressed_bodies_are_never_unpacked(api: GatedApi, encodings: tuple[bytes, ...]) -> None:
    reply = await api.post(TEXT, BOMB, *(b"Content-Encoding: " + encoding for encoding in encodings))
    check_error(reply, 415, "unsupported_media_type")


async def test_a_form_is_no_request(api: GatedApi) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ndemo\r\n--b--\r\n'
    for kind, body in (
        (b"multipart/form-data; boundary=b", form),
        (b"application/x-www-form-urlencoded", b"model=demo"),
    ):
        check_error(await api.post(TEXT, body, b"Content-Type: " + kind), 400, "invalid_json")


def chat(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "demo", "messages": [{"role": "user", "content": "say:x"}], **fields})


def raw(field: bytes) -> bytes:
    """A chat with one more field, written by hand."""
    return chat()[:-1] + b"," + field + b"}"


DEEP = 100_000
LISTS = b"[" * DEEP + b"]" * DEEP
OBJECTS = b'{"a":' * DEEP + b"1" + b"}" * DEEP
DIGITS = b"9" * 5000
AS_TEXT = chat().decode()

NOT_JSON: dict[str, bytes] = {
    "infinity": raw(b'"temperature":Infinity'),
    "minus infinity, ignored": raw(b'"x":-Infinity'),
    "NaN in free form": raw(b'"chat_template_kwargs":{"a":NaN}'),
    "NaN as a bias": raw(b'"logit_bias":{"1":NaN}'),
    "leading zero": raw(b'"max_tokens":01'),
    "plus sign": raw(b'"max_tokens":+1'),
    "deep lists as tools": raw(b'"tools":' + LISTS),
    "deep objects as free form": raw(b'"chat_template_kwargs":' + OBJECTS),
    "deep tool choice": raw(b'"tool_choice":' + OBJECTS),
    "deep objects": OBJECTS,
    "surrogate in a stop": raw(b'"stop":"\\udfff"'),
    "surrogate as a key": raw(b'"\\ud800":1'),
    "surrogate in free form": raw(b'"chat_template_kwargs":{"\\ud800":1}'),
    "surrogate in UTF-8": raw(b'"user":"\xed\xa0\x80"'),
    "overlong UTF-8": raw(b'"user":"\xc0\xaf"'),
    "UTF-16": AS_TEXT.encode("utf-16"),
    "UTF-16 without a mark": AS_TEXT.encode("utf-16-le"),
    "UTF-32": AS_TEXT.encode("utf-32"),
    "two documents": chat() * 2,
    "NUL behind": chat() + b"\x00",
    "trailing comma": raw(b'"n":1,'),
    "comment": raw(b'"n":1/**/'),
    "control character": raw(b'"user":"\x01"'),
    "single quotes": chat().replace(b'"', b"'"),
    "white space": b" " * 1000,
}


@pytest.mark.parametrize("name", NOT_JSON)
async def test_what_is_no_json_is_said_to_be_none(api: GatedApi, name: str) -> None:
    check_error(await api.post(CHAT, NOT_JSON[name]), 400, "invalid_json")


@pytest.mark.parametrize(
    "body", [b"null", b"true", b"1", b'"a"', LISTS, b"1e999", DIGITS], ids=lambda body: str(body[:8])
)
async def test_what_is_no_object_is_refused(api: GatedApi, body: bytes) -> None:
    for path in (CHAT, TEXT):
        check_error(await api.post(path, body), 400, "invalid_request")


@pytest.mark.parametrize(
    "field", [b'"x":1e999', b'"x":' + DIGITS, b'"user":"\\u0000"', b'"temperature":0.' + DIGITS, b'"k":[{}]'], ids=len
)
async def test_odd_values_that_harm_nobody_are_let_through(api: GatedApi, field: bytes) -> None:
    assert (await api.post(CHAT, raw(field))).status == 200


# ── fields ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SHARED: list[tuple[bytes, str]] = [
    (b'"max_tokens":0', "max_tokens"),
    (b'"max_tokens":2147483648', "max_tokens"),
    (b'"max_tokens":1e999', "max_tokens"),
    (b'"max_tokens":1.5', "max_tokens"),
    (b'"max_tokens":"5"', "max_tokens"),
    (b'"max_tokens":1,"max_tokens":-1', "max_tokens"),
    (b'"n":-1', "n"),
    (b'"n":true', "n"),
    (b'"n":1e9', "n"),
    (b'"temperature":1e999', "temperature"),
    (b'"temperature":-1', "temperature"),
    (b'"temperature":true', "temperature"),
    (b'"top_k":9223372036854775808', "top_k"),
    (b'"min_p":-1', "min_p"),
    (b'"repeat_penalty":0', "repeat_penalty"),
    (b'"frequency_penalty":1e9', "frequency_penalty"),
    (b'"seed":9223372036854775808', "seed"),
    (b'"seed":-9223372036854775809', "seed"),
    (b'"seed":1.5', "seed"),
    (b'"seed":true', "seed"),
    (b'"seed":' + DIGITS, "seed"),
    (b'"stop":""', "stop"),
    (b'"stop":[""]', "stop[0]"),
    (b'"stop":[["a"]]', "stop[0]"),
    (b'"stop":"' + b"x" * 257 + b'"', "stop"),
    (b'"stop":"' + b"x" * 10 * MIB + b'"', "stop"),
    (b'"stop":[' + b'"x",' * MIB + b'"x"]', "stop"),
    (b'"logit_bias":{"2147483648":1}', "logit_bias"),
    (b'"logit_bias":{"' + DIGITS + b'":1}', "logit_bias"),
    (b'"logit_bias":{" 1":1}', "logit_bias"),
    (b'"logit_bias":{' + b",".join(b'"%d":1' % token for token in range(300_000)) + b"}", "logit_bias"),
    (b'"priority":9223372036854775808', "priority"),
    (b'"deadline_seconds":1e308', "deadline_seconds"),
    (b'"deadline_seconds":-1', "deadline_seconds"),
    (b'"stream":"yes"', "stream"),
    (b'"stream_options":5', "stream_options"),
    (b'"user":["u"]', "user"),
]

OF_A_CHAT: list[tuple[bytes, str]] = [
    (b'"max_completion_tokens":-1', "max_completion_tokens"),
    (b'"max_completion_tokens":9223372036854775808', "max_completion_tokens"),
    (b'"max_completion_tokens":true', "max_completion_tokens"),
    (b'"logprobs":true,"top_logprobs":1000000000', "top_logprobs"),
    (b'"tools":"a"', "tools"),
    (b'"tools":[1]', "tools[0]"),
    (b'"tools":[{"a":' + DIGITS + b"}]", "tools[0][...]"),
    (b'"chat_template_kwargs":[1]', "chat_template_kwargs"),
    (b'"chat_template_kwargs":{"a":' + DIGITS + b"}", "chat_template_kwargs[...]"),
    (b'"chat_template_kwargs":{"a":"' + b"x" * 2 * MIB + b'"}', "chat_template_kwargs"),
    (b'"tool_choice":{"a":' + b"[" * 900 + b"]" * 900 + b"}", "tool_choice"),
    (b'"tools":[],"tool_choice":{"type":"allowed_tools","allowed_tools":5}', "tool_choice.allowed_tools"),
    (b'"tools":[],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"name":"'
     + b"x" * MIB + b'"}]}}', "tool_choice"),
    (b'"response_format":{"type":"' + b"x" * MIB + b'"}', "response_format.type"),
    (b'"messages":' + LISTS, "messages[0]"),
    (b'"messages":[{"role":"user","content":' + LISTS + b"}]", "messages[0].content[0]"),
    (b'"messages":[{"role":"user","content":5}]', "messages[0].content"),
    (b'"messages":[{"role":"' + b"x" * MIB + b'"}]', "messages[0].role"),
    (b'"messages":[{"role":"\\u001b[2J"}]', "messages[0].role"),
    (b'"messages":[{"role":"user","content":[{"type":"' + b"x" * MIB + b'"}]}]', "messages[0].content[0]"),
    (b'"messages":[' + b'{"role":"user"},' * 100_000 + b'{"role":"user"}]', "messages"),
    (b'"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"a","arguments":{}}}]}]',
     "messages[0].tool_calls[0].function.arguments"),
    (b'"messages":[{"role":"assistant","tool_calls":[' + b'{"function":{"name":""}},' * 100_000
     + b'{"function":{"name":""}}]}]', "messages"),
    (b'"messages":[{"role":"user","content":[' + b'{"type":"text","text":""},' * 100_000
     + b'{"type":"text","text":""}]}]', "messages"),
]  # fmt: skip

OF_A_TEXT: list[tuple[bytes, str]] = [
    (b'"max_tokens":-1', "max_tokens"),
    (b'"max_tokens":9223372036854775808', "max_tokens"),
    (b'"max_tokens":true', "max_tokens"),
    (b'"n":1000000000', "n"),
    (b'"best_of":1000000000', "best_of"),
    (b'"best_of":1180591620717411303424', "best_of"),
    (b'"logprobs":1000000000', "logprobs"),
    (b'"logprobs":true', "logprobs"),
    (b'"prompt":{}', "prompt"),
    (b'"prompt":[]', "prompt"),
    (b'"prompt":[["a"]]', "prompt[0][0]"),
    (b'"prompt":[[[1]]]', "prompt[0][0]"),
    (b'"prompt":["a",1]', "prompt"),
    (b'"prompt":[1' + b",1" * 2**20 + b"]", "prompt"),
    (b'"echo":5', "echo"),
    (b'"echo":false,"max_tokens":0', "max_tokens"),
    (b'"suffix":["x"]', "suffix"),
]


def shown(value: bytes | str) -> str:
    return value if isinstance(value, str) else value[:40].decode()


async def refused(api: GatedApi, path: str, body: bytes, param: str) -> None:
    error = check_error(await api.post(path, body), 400, "invalid_request")
    assert error["param"] == param


@pytest.mark.parametrize(("field", "param"), SHARED + OF_A_CHAT, ids=shown)
async def test_a_field_of_a_chat_that_does_not_fit_is_named(api: GatedApi, field: bytes, param: str) -> None:
    reply = await api.post(CHAT, raw(field))
    assert check_error(reply, 400, "invalid_request")["param"] == param
    assert "\x1b" not in reply.error["message"].replace("\\x1b", "")


@pytest.mark.parametrize(("field", "param"), SHARED + OF_A_TEXT, ids=shown)
async def test_a_field_of_a_completion_that_does_not_fit_is_named(api: GatedApi, field: bytes, param: str) -> None:
    reply = await api.post(TEXT, BODY[:-1] + b"," + field + b"}")
    assert check_error(reply, 400, "invalid_request")["param"] == param


async def test_a_model_of_ten_megabytes_is_not_repeated(api: GatedApi) -> None:
    error = check_error(await api.post(CHAT, chat(model="x" * 10 * MIB)), 404, "model_not_found")
    assert len(error["message"]) < 500


async def test_the_limits_themselves_are_allowed(api: GatedApi) -> None:
    turns = [{"role": "user", "content": "a"}] * 9_999 + [{"role": "user", "content": "say:x"}]
    fields: dict[str, Any] = {
        "max_tokens": 2**31 - 1,
        "seed": -(2**63),
        "stop": ["x" * 256] * 16,
        "logit_bias": {str(token): 1 for token in range(2**31 - 1024, 2**31)},
        "user": "u" * MIB,
        "priority": 100,
        "deadline_seconds": 86_400,
        "messages": turns,
    }
    assert (await api.post(CHAT, chat(**fields))).status == 200


@pytest.mark.slow
async def test_a_hostile_body_does_not_stop_others_for_long(api: GatedApi) -> None:
    """One loop serves all. Decoding 32 MiB of the smallest objects takes it 1 to 2 s already."""
    unit = b'{"function":{"name":""}},'
    body = raw(b'"messages":[{"role":"assistant","tool_calls":[' + unit * (31 * MIB // len(unit)) + unit[:-1] + b"]}]")
    slowest = 0.0

    async def look() -> None:
        nonlocal slowest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        await refused(api, CHAT, body, "messages")
        looking.cancel()
    assert slowest < 20
