"""appliance.models.upstream.request"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from appliance.models.upstream.request import cache_salt, upstream_body

_fields = msgspec.json.Decoder(dict[str, Raw])


def body(text: bytes, *, stream: bool = False, salt: str | None = None) -> bytes:
    return upstream_body(_fields.decode(text), model="theirs", stream=stream, cache_salt=salt)


def test_everything_else_goes_on_byte_for_byte() -> None:
    said = b'{"model":"ours","x":1.10e2,"messages":[{"role" : "user","content":"\\u00e4"}],"model":"again"}'
    assert body(said) == b'{"model":"theirs","x":1.10e2,"messages":[{"role" : "user","content":"\\u00e4"}]}'


@pytest.mark.parametrize("options", [b"null", b"{}", b'{"include_usage":false}'])
def test_the_usage_of_a_stream_is_always_asked_for(options: bytes) -> None:
    assert body(b'{"stream_options":%b}' % options, stream=True).startswith(b'{"stream_options":{"include_usage":true}')
    assert body(b'{"stream_options":%b}' % options).startswith(b'{"stream_options":%b' % options)


def test_a_client_cannot_choose_whose_prompts_it_finds() -> None:
    assert b'"cache_salt":"salt"' in body(b'{"cache_salt":"stolen"}', salt="salt")


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_salt_for_each_domain(one: str, other: str) -> None:
    assert (cache_salt(one) == cache_salt(other)) is (one == other)
    assert len(cache_salt(one)) == 43
