"""appliance.models.repeats"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from appliance.alias_spec import FallbackSpec
from appliance.models.repeats import ENTRY_BYTES, Repeats, repeat_key
from appliance.types import Usage

KEPT = FallbackSpec(repeats_mib=1, repeats_seconds=100)
USAGE = Usage(prompt_tokens=1, completion_tokens=2)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def key(body: dict[str, object], who: str = "a", endpoint: str = "completions") -> bytes:
    return repeat_key(who, endpoint, msgspec.json.decode(msgspec.json.encode(body), type=dict[str, Raw]))


def test_the_same_request_of_the_same_principal_has_the_same_key() -> None:
    asked: dict[str, object] = {"model": "m", "prompt": "x", "temperature": 0}
    same = [asked, {"temperature": 0, "prompt": "x", "model": "m"}, {**asked, "stream": True, "user": "u"}]
    assert len({key(body) for body in same}) == 1
    others = [key({**asked, "prompt": "y"}), key({**asked, "max_tokens": 1}), key(asked, who="b")]
    others += [key(asked, endpoint="chat/completions"), key({"model": "m", "prompt": 'x"', "temperature": 0})]
    assert len({key(asked), *others}) == 6


def test_an_answer_is_given_until_it_is_too_old() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    repeats.keep("chat", KEPT, b"k", "m", "text", "stop", USAGE)
    found = repeats.find("chat", KEPT, b"k")
    assert found is not None and (found.model, found.text, found.usage) == ("m", "text", USAGE)
    assert repeats.find("other", KEPT, b"k") is None and repeats.find("chat", KEPT, b"other") is None
    assert repeats.find("chat", FallbackSpec(), b"k") is None, "nobody wants it any more"
    clock.now = 101
    assert repeats.find("chat", KEPT, b"k") is None


def test_the_oldest_go_where_there_is_no_room() -> None:
    repeats = Repeats(Clock())
    spec = FallbackSpec(repeats_mib=3 * (1000 + ENTRY_BYTES) / 2**20)
    for number in (0, 1, 2, 0, 3):
        repeats.keep("chat", spec, bytes([number]), "m", "x" * 1000, "stop", USAGE)
    kept = [number for number in range(4) if repeats.find("chat", spec, bytes([number])) is not None]
    assert kept == [0, 2, 3], "one that was asked for again is young again"
    repeats.keep("chat", spec, b"large", "m", "x" * 10_000, "stop", USAGE)
    assert repeats.find("chat", spec, b"large") is None
    repeats.keep("chat", spec, b"small", "m", "x", "stop", USAGE)
    assert repeats.find("chat", spec, b"small") is not None, "the sum is right after it"
