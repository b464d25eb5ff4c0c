"""appliance.telemetry.request_filter: what it takes, what it says of what it cannot read, and that SQL agrees."""

from __future__ import annotations

import sqlite3
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.errors import ErrorCode
from appliance.telemetry.request_columns import micros, packed_address
from appliance.telemetry.request_filter import FilterError, parse
from appliance.telemetry.request_record import Outcome, RequestRecord
from appliance.types import FinishReason
from tests.examples import at_most

NOW = 1_763_600_000.0
RECORD = RequestRecord(
    id="8f2aCD",
    time=NOW - 600,
    address="10.20.3.14",
    method="POST",
    path="/v1/chat/completions",
    outcome="failed",
    status=503,
    total_seconds=12.5,
    principal="财务部-报表",
    key_id="K_7f3a",
    model="qwen3-32b-q4_k_m",
    alias="Chat",
    stream=True,
    error_code="queue_full",
    finish_reason="length",
    prompt_tokens=33_120,
    completion_tokens=7,
    ttft_seconds=0.31,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "st>=400",
        "st:503",
        "st:200|503",
        "model:QWEN",
        "model:chat",
        "model=chat",
        "key:财务",
        "key:k_7",
        "principal:报表",
        "ip:10.20.0.0/16",
        "ip:10.20.3.14",
        "ip:::ffff:10.20.0.0/112",
        "10.20.0.0/16",
        "dur>12",
        "dur<=12500ms",
        "ttft:0.31",
        "in>33k",
        "out<8",
        "queue:-",
        "!queue<1",
        "path:/v1/chat",
        "outcome:failed|refused",
        "error:QUEUE",
        "id:8f2a",
        "8f2a",
        "finish:length",
        "stream:yes",
        "!mirrored:yes",
        "since:15m",
        "until:2m",
        "since:2025-11-20T00:00 until:2025-11-21T00:00+08:00",
        "!key:ci-bot",
        '"queue_full"',
        "queue_full|nothing",
        'chat failed !"no such"',
        'model:"qwen3-32b-q4_k_m"',
    ],
)
def test_a_filter_takes_the_record(text: str) -> None:
    assert parse(text).matches(RECORD, NOW)
    assert in_sql(text, RECORD)


@pytest.mark.parametrize(
    "text",
    [
        "st>503",
        "model:llama",
        "model=qwen",
        "key:-",
        "error:-",
        "!key:k_7",
        "ip:10.21.0.0/16",
        "ip:::/0",
        "dur<12.5",
        "ttft:-",
        "queue<1",
        "path:/V1",
        "id:8F2A",
        "id:f2",
        "stream:no",
        "since:5m",
        "until:15m",
        '"queue full"',
        "st>=400 outcome:ok",
        '"-q5"',
    ],
)
def test_a_filter_leaves_the_record_out(text: str) -> None:
    assert not parse(text).matches(RECORD, NOW)
    assert not in_sql(text, RECORD)


@pytest.mark.parametrize(
    ("text", "word", "says"),
    [
        ("model:a st>", "st>", "a value is missing; expected a status"),
        ("st>x", "st>x", "'x' is no number"),
        ("modle:a", "modle:a", "did you mean model?"),
        ("http://x/", "http://x/", "quote it"),
        ("dur>10kg", "dur>10kg", "is no number; expected seconds"),
        ("model>3", "model>3", "model is not compared with >"),
        ("st!=200", "st!=200", "write !st:200"),
        ("st>1|2", "st>1|2", "> takes one value"),
        ("outcome:bad", "outcome:bad", "expected ok or refused or failed or client_gone"),
        ("finish:halt", "finish:halt", "expected stop or length"),
        ("stream:maybe", "stream:maybe", "expected yes or no"),
        ("ip:10.20", "ip:10.20", "is no address"),
        ("since:soon", "since:soon", "since:15m, 2h or 3d"),
        ("since:99999999999w", "since:99999999999w", "is no time"),
        ("a !", "!", "a word is missing after `!`"),
        ('key:"ci bot', '"ci bot', "the quote has no end"),
        ('""', '""', "the text is empty"),
        ("key:a||b", "key:a||b", "a value is missing beside `|`"),
        ("key:|", "key:|", "a value is missing beside `|`"),
    ],
)
def test_what_cannot_be_read_is_shown(text: str, word: str, says: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert text[caught.value.start : caught.value.end] == word
    assert str(caught.value).startswith(f"{word}: ") and says in str(caught.value)


def test_a_filter_is_bounded() -> None:
    for text in ("x" * 1001, "a " * 33, "st:" + "|".join("1" * 33)):
        with pytest.raises(FilterError, match="at most"):
            parse(text)


def test_nothing_that_was_typed_is_in_the_sql() -> None:
    sql, parameters = parse("""model:zzz' "zzz;" path:zzz id:zzz key:zzz|zzzz""").where(NOW)
    assert "zzz" not in sql and "'" not in sql and "zzz" in parameters


def test_which_terms_an_index_serves() -> None:
    text = "st>=400 model:q !st:200 path:/v1 since:1h any stream:yes in>5 ip:10.0.0.0/8 id:8f key:a|-"
    indexed = [bool(one.indexed) for one in parse(text).conditions(NOW)]
    assert indexed == [True, True, False, False, True, False, False, False, True, True, False]


# Values that records and filters share, so that they meet.
NAMES = ["qwen3-32b", "Qwen", "ci-bot", "客服", "a b", "k_1", "-", 'q"x', "É"]
ADDRESSES = ["10.20.3.14", "10.21.0.1", "::1", "fd00::7", "::ffff:10.20.3.14", "unix", ""]
SECONDS = [0.0, 0.1, 0.3, 1.0, 1.5, 2.0, 10.0]


def optional(values: Any) -> Any:
    return st.none() | st.sampled_from(values)


RECORDS = st.builds(
    RequestRecord,
    id=st.sampled_from(["8f2a", "8f2b", "req:1", "Chat"]),
    time=st.sampled_from([NOW, NOW - 60, NOW - 3600, NOW - 0.5]),
    address=st.sampled_from(ADDRESSES),
    method=st.just("POST"),
    path=st.sampled_from(["/v1/chat", "/v1/Chat", "/x\x00y", "/报"]),
    outcome=st.sampled_from(get_args(Outcome)),
    status=st.sampled_from([0, 200, 401, 503]),
    total_seconds=st.sampled_from(SECONDS),
    principal=optional(NAMES),
    key_id=optional(NAMES),
    model=optional(NAMES),
    alias=optional(NAMES),
    mirrored=st.booleans(),
    stream=st.none() | st.booleans(),
    error_code=optional(get_args(ErrorCode)[:5]),
    finish_reason=optional(get_args(FinishReason)),
    prompt_tokens=st.sampled_from([0, 5, 1000]),
    completion_tokens=st.sampled_from([0, 5, 1000]),
    ttft_seconds=optional(SECONDS),
    queue_seconds=optional(SECONDS),
)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


TEXTS = st.sampled_from([*map(quoted, NAMES), "q", "wen", "é", "chat", "8f2", "/v1", "o", "_"])
NUMBERS = st.sampled_from(["0", "0.1", "0.3", "1", "2", "100ms", "5", "401", "503"])
TERMS = st.one_of(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["model", "key", "principal", "error", "path", "id"]),
        st.sampled_from(":="),
        TEXTS,
    ),
    st.builds("{}:{}|{}".format, st.sampled_from(["model", "key", "error"]), TEXTS, st.sampled_from(["-", "queue"])),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["dur", "ttft", "queue"]),
        st.sampled_from([">", ">=", "<", "<=", ":"]),
        NUMBERS,
    ),
    st.builds("st{}{}".format, st.sampled_from([">", ">=", "<", "<=", "="]), st.sampled_from(["0", "200", "401"])),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["in", "out"]),
        st.sampled_from([">", ">=", "<", "<=", "="]),
        st.sampled_from(["0", "5", "1k"]),
    ),
    st.builds(
        "ip:{}".format,
        st.sampled_from(
            ["10.20.0.0/16", "::/0", "0.0.0.0/0", "::1", "fd00::/8", "::ffff:0:0/96", "::ffff:10.20.0.0/112"]
        ),
    ),
    st.builds(
        "{}:{}".format, st.sampled_from(["since", "until"]), st.sampled_from(["1m", "59s", "1h", "500s", "2025-11-20"])
    ),
    st.sampled_from(
        [
            "outcome:ok|failed",
            "outcome:client_gone",
            "finish:stop|-",
            "stream:yes",
            "stream:no",
            "mirrored:yes",
            "ttft:-",
        ]
    ),
    TEXTS,
)
FILTERS = st.lists(st.builds("{}{}".format, st.sampled_from(["", "!"]), TERMS), max_size=3).map(" ".join)


def table(records: list[RequestRecord]) -> sqlite3.Connection:
    """The columns that a filter asks for; numbered by place."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT UNIQUE)")
    database.execute(
        "CREATE TABLE requests (seq INTEGER PRIMARY KEY, time, status, model, alias, principal, key_id, outcome, error,"
        " finish, path, id, address, total, ttft, queue, prompt, completion, stream, mirrored)"
    )

    def name(text: str | None) -> int | None:
        database.execute("INSERT OR IGNORE INTO names (text) VALUES (?)", (text,))
        found: tuple[int] | None = database.execute("SELECT id FROM names WHERE text = ?", (text,)).fetchone()
        return None if text is None or found is None else found[0]

    for place, one in enumerate(records):
        row = (
            *(place, micros(one.time), one.status),
            *map(
                name, (one.model, one.alias, one.principal, one.key_id, one.outcome, one.error_code, one.finish_reason)
            ),
            *(one.path, one.id, packed_address(one.address)),
            *(
                None if value is None else micros(value)
                for value in (one.total_seconds, one.ttft_seconds, one.queue_seconds)
            ),
            *(one.prompt_tokens, one.completion_tokens, one.stream, one.mirrored),
        )
        database.execute(f"INSERT INTO requests VALUES ({', '.join('?' * 20)})", row)
    return database


def in_sql(text: str, *records: RequestRecord) -> list[int]:
    sql, parameters = parse(text).where(NOW)
    database = table(list(records))
    try:
        return [row[0] for row in database.execute(f"SELECT seq FROM requests WHERE {sql} ORDER BY seq", parameters)]
    finally:
        database.close()


@given(st.lists(RECORDS, max_size=6), FILTERS)
def test_sql_and_memory_agree(records: list[RequestRecord], text: str) -> None:
    wanted = parse(text)
    assert in_sql(text, *records) == [n for n, one in enumerate(records) if wanted.matches(one, NOW)]


@given(st.text(max_size=40))
@settings(max_examples=at_most(200))
def test_whatever_is_typed_is_read_or_refused(text: str) -> None:
    try:
        wanted = parse(text)
    except FilterError as error:
        assert 0 <= error.start <= error.end <= len(text)
        return
    assert bool(in_sql(text, RECORD)) == wanted.matches(RECORD, NOW)


def test_a_negation_holds_where_nothing_is_known() -> None:
    unknown = replace(RECORD, model=None, alias=None, ttft_seconds=None, stream=None)
    for text in ("!model:qwen", "!ttft>1", "!ttft<=1", "!stream:yes"):
        assert parse(text).matches(unknown, NOW) and in_sql(text, unknown)
