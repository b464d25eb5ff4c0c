"""Changing who may connect, without locking the wrong people out."""

from __future__ import annotations

import os
import pwd
from datetime import datetime, timedelta

from appliance.access_config import Listener
from appliance.admin_client import AdminClient
from appliance.config import Config
from appliance.security.allowlist import normalise
from appliance.security.denied_addresses import DeniedAddress
from appliance.state_dir import StateDir
from tests.admin.desk import Desk, refused

NETWORK = "192.0.2.0/24"


async def allowed(admin: AdminClient, address: str) -> tuple[bool, bool]:
    """Now, and with what is staged."""
    found = await admin.get("/allowlist/test", address=address)
    return found["now"]["api"], found["staged"]["api"]


async def test_stage_apply_confirm(desk: Desk, admin: AdminClient) -> None:
    staged = await admin.post("/allowlist/stage", {"add": [{"network": NETWORK, "comment": "Dify hosts"}]})
    (added,) = staged["staged"]["add"]
    assert (added["network"], added["comment"], added["listener"]) == (NETWORK, "Dify hosts", None)
    assert datetime.fromisoformat(added["added_at"]) <= desk.clock()
    assert await allowed(admin, "192.0.2.7") == (False, True)

    applied = await admin.post("/allowlist/apply")
    until = datetime.fromisoformat(applied["trial"]["revert_at"])
    assert timedelta(seconds=110) < until - desk.clock() <= timedelta(seconds=120)
    assert applied["staged"] == {"add": [], "remove": []}
    assert await allowed(admin, "192.0.2.7") == (True, True)

    async with desk.client() as another:
        assert (await another.post("/allowlist/confirm"))["trial"] is None
    (entry,) = (await admin.get("/allowlist"))["entries"]
    assert (entry["network"], entry["origin"]) == (NETWORK, "allow add")
    assert (entry["added_by"], entry["added_at"]) == (added["added_by"], added["added_at"])
    assert entry["added_by"] == pwd.getpwuid(os.getuid()).pw_name
    error = await refused(admin.post("/allowlist/confirm"))
    assert (error.code, "no change is on trial" in str(error)) == ("conflict", True)
    assert await desk.outcomes("allow.apply") == await desk.outcomes("allow.stage") == ["allow", "ok"]


async def test_a_connection_older_than_the_change_proves_nothing(desk: Desk, admin: AdminClient) -> None:
    await admin.post("/allowlist/stage", {"add": [{"network": NETWORK}]})
    await admin.post("/allowlist/apply")
    error = await refused(admin.post("/allowlist/confirm"))
    assert error.code == "conflict"
    assert "new connection" in str(error)
    assert (await admin.get("/allowlist"))["trial"] is not None


async def test_reverting_keeps_it_staged_and_discarding_does_not(admin: AdminClient) -> None:
    await admin.post("/allowlist/stage", {"add": [{"network": NETWORK}]})
    await admin.post("/allowlist/apply", {"confirm_seconds": 5})
    reverted = await admin.post("/allowlist/revert")
    assert (reverted["entries"], reverted["trial"]) == ([], None)
    assert [entry["network"] for entry in reverted["staged"]["add"]] == [NETWORK]
    assert await allowed(admin, "192.0.2.7") == (False, True)
    assert (await admin.post("/allowlist/discard"))["staged"] == {"add": [], "remove": []}
    for path in ("/allowlist/revert", "/allowlist/apply"):
        assert (await refused(admin.post(path))).code == "conflict"


async def test_without_a_trial_it_counts_for_good(desk: Desk, admin: AdminClient) -> None:
    await admin.post("/allowlist/stage", {"add": [{"network": NETWORK}]})
    assert (await admin.post("/allowlist/apply", {"confirm_seconds": 0}))["trial"] is None
    staged = await admin.post("/allowlist/stage", {"remove": [NETWORK]})
    assert [entry["network"] for entry in staged["staged"]["remove"]] == [NETWORK]


async def test_one_trial_at_a_time(admin: AdminClient) -> None:
    await admin.post("/allowlist/stage", {"add": [{"network": NETWORK}]})
    await admin.post("/allowlist/apply")
    await admin.post("/allowlist/stage", {"add": [{"network": "198.51.100.0/24"}]})
    error = await refused(admin.post("/allowlist/apply"))
    assert error.code == "conflict"
    assert "confirm or revert it first" in str(error)


async def test_who_was_here_lately_is_not_shut_out_unasked(desk: Desk, admin: AdminClient) -> None:
    await admin.post("/allowlist/stage", {"add": [{"network": NETWORK}]})
    await admin.post("/allowlist/apply", {"confirm_seconds": 0})
    desk.office.seen.note_address("api", normalise("192.0.2.7"), desk.clock())
    await admin.post("/allowlist/stage", {"remove": [NETWORK]})
    for plan in (True, False):
        error = await refused(admin.post("/allowlist/apply", plan=plan))
        assert error.code == "needs_force"
        assert "192.0.2.7" in str(error)
        assert "--force" in str(error)
    assert await allowed(admin, "192.0.2.7") == (True, False)
    desk.clock.ahead = timedelta(hours=25)
    await admin.post("/allowlist/apply", plan=True)
    desk.clock.ahead = timedelta()
    await admin.post("/allowlist/apply", {"force": True})
    assert await allowed(admin, "192.0.2.7") == (False, False)


async def test_an_entry_for_some_time(desk: Desk, admin: AdminClient) -> None:
    add = [
        {"network": NETWORK, "for_seconds": 3600},
        {"network": "198.51.100.0/24", "until": "2100-01-01T00:00:00+08:00"},
    ]
    error = await refused(admin.post("/allowlist/stage", {"add": add}))
    assert (error.code, "give it no end" in str(error)) == ("invalid", True)
    before = desk.clock().replace(microsecond=0)
    staged = await admin.post("/allowlist/stage", {"add": add[:1]})
    (added,) = staged["staged"]["add"]
    end = datetime.fromisoformat(added["until"])
    assert before <= end - timedelta(seconds=3600) <= desk.clock()
    await admin.post("/allowlist/apply", {"confirm_seconds": 0})
    found = await admin.get("/allowlist/test", address="192.0.2.7")
    assert found["now"] == {"api": True}
    assert datetime.fromisoformat(found["until"]["api"]) == end
    assert (await admin.get("/allowlist"))["entries"][0]["ended"] is False
    desk.clock.ahead = timedelta(hours=1)
    assert await allowed(admin, "192.0.2.7") == (False, False)
    (entry,) = (await admin.get("/allowlist"))["entries"]
    assert (entry["ended"], datetime.fromisoformat(entry["until"])) == (True, end)


async def test_an_entry_gets_another_end(desk: Desk, admin: AdminClient) -> None:
    add = {"network": NETWORK, "listener": "api", "comment": "lab"}
    await admin.post("/allowlist/stage", {"add": [add]})
    await admin.post("/allowlist/apply", {"confirm_seconds": 0})
    desk.office.seen.note_address("api", normalise("192.0.2.7"), desk.clock())
    staged = await admin.post("/allowlist/stage", {"extend": [{"network": NETWORK, "for_seconds": 60}]})
    (added,) = staged["staged"]["add"]
    assert {name: added[name] for name in add} == add
    for plan in (True, False):
        answer = await admin.post("/allowlist/apply", {"confirm_seconds": 0}, plan=plan)
        assert answer["ending_sooner"] == [{"address": "192.0.2.7", "until": added["until"]}]
    (record,) = [one for one in await desk.records() if (one.action, one.outcome) == ("allow.stage", "ok")][-1:]
    assert record.details["after"] == f'192.0.2.0/24 (api) "lab" until {added["until"]}'
    await admin.post("/allowlist/stage", {"extend": [{"network": NETWORK}]})
    answer = await admin.post("/allowlist/apply", {"confirm_seconds": 0})
    assert (answer["entries"][0]["until"], answer["ending_sooner"]) == (None, [])


async def test_hits_of_each_entry(state: StateDir) -> None:
    config = Config(listeners={"api": Listener(allow=("198.51.100.1",))})
    async with Desk.open(state, config) as desk, desk.client() as admin:
        await admin.post("/allowlist/stage", {"add": [{"network": NETWORK}, {"network": "203.0.113.0/24"}]})
        await admin.post("/allowlist/apply", {"confirm_seconds": 0})
        hits, now = desk.office.access.hits, desk.clock()
        assert [entry["hits"] for entry in (await admin.get("/allowlist"))["entries"]] == [None] * 3
        hits.keep(desk.office.access.view.entry_names(), now)
        for address in ("192.0.2.7", "192.0.2.8", "198.51.100.1"):
            rule = desk.office.access.allowlist("api").admitting(normalise(address), now)
            assert rule is not None
            hits.note(rule.name, now)
        found = (await admin.get("/allowlist"))["entries"]
        assert [(entry["network"], entry["hits"]) for entry in found] == [
            ("198.51.100.1", 1),
            (NETWORK, 2),
            ("203.0.113.0/24", 0),
        ]
        seen = [entry["last_seen"] and datetime.fromisoformat(entry["last_seen"]) for entry in found]
        second = now.replace(microsecond=0)
        assert seen == [second, second, None]
        assert datetime.fromisoformat(found[2]["counted_since"]) == second


SENSELESS: list[tuple[dict[str, object], str, str]] = [
    ({"add": [{"network": "192.0.2.1/24"}]}, "invalid", "192.0.2.1/24"),
    ({"add": [{"network": "example.org"}]}, "invalid", "example.org"),
    ({"add": [{"network": NETWORK, "listener": "nowhere"}]}, "not_found", "known: api"),
    ({"add": [{"network": NETWORK, "note": "x"}]}, "invalid", "unknown key"),
    ({"remove": [NETWORK]}, "not_found", "allow list"),
    ({"remove": ["x"]}, "invalid", "'x'"),
    ({"extend": [{"network": NETWORK, "for_seconds": 60}]}, "not_found", "allow list"),
    ({"add": [{"network": NETWORK, "for_seconds": 0}]}, "invalid", "for_seconds"),
    ({"add": [{"network": NETWORK, "until": "2026-01-01T00:00:00"}]}, "invalid", "until"),
    ({"add": [{"network": NETWORK, "until": "2020-01-01T00:00:00Z"}]}, "invalid", "give a later end"),
    ({"add": [{"network": NETWORK, "until": "2099-01-01T00:00:00Z", "for_seconds": 1}]}, "invalid", "not both"),
    ({"add": [{"network": ""}]}, "invalid", "network"),
]


async def test_what_makes_no_sense(admin: AdminClient) -> None:
    for body, code, says in SENSELESS:
        error = await refused(admin.post("/allowlist/stage", body))
        assert error.code == code
        assert says in str(error)


async def test_addresses_that_are_none(admin: AdminClient) -> None:
    for text in ("", "x", "192.0.2.0/24", "1.2.3", "192.0.2.1:80"):
        error = await refused(admin.get("/allowlist/test", address=text))
        assert (error.code, "is no address" in str(error)) == ("invalid", True)
    assert (await admin.get("/allowlist/test", address="::ffff:192.0.2.1"))["address"] == "192.0.2.1"


async def test_what_appliance_yaml_lists_is_changed_there(state: StateDir) -> None:
    config = Config(listeners={"api": Listener(allow=(NETWORK,)), "second": Listener(port=8500)})
    async with Desk.open(state, config) as desk, desk.client() as admin:
        (entry,) = (await admin.get("/allowlist"))["entries"]
        assert (entry["origin"], entry["listener"]) == ("appliance.yaml", "api")
        error = await refused(admin.post("/allowlist/stage", {"remove": [NETWORK]}))
        assert error.code == "conflict"
        assert "listeners.api.allow" in str(error)
        await admin.post("/allowlist/stage", {"add": [{"network": "198.51.100.0/24", "listener": "second"}]})
        await admin.post("/allowlist/apply", {"confirm_seconds": 0})
        found = await admin.get("/allowlist/test", address="198.51.100.1")
        assert found["now"] == {"api": False, "second": True}


async def test_records_say_what_changed_and_that_it_was_forced(desk: Desk, admin: AdminClient) -> None:
    await admin.post("/allowlist/stage", {"add": [{"network": NETWORK, "listener": "api"}]})
    await admin.post("/allowlist/apply", {"force": True})
    records = [record for record in await desk.records() if record.action.startswith("allow.")]
    added = {"added": f"{NETWORK} (api)"}
    assert [record.details for record in records] == [
        added,
        {**added, "generation": 2, "cut": 0},
        {**added, "force": "true"},
        {**added, "force": "true", "generation": 3, "cut": 0},
    ]


async def test_who_was_turned_away_is_told(desk: Desk, admin: AdminClient) -> None:
    assert await admin.get("/allowlist/denied") == []
    now = desk.clock().timestamp()
    desk.premises.turned_away = {
        "api": [DeniedAddress("10.31.4.9", 812, now), DeniedAddress("10.0.0.1", 1, now - 60)],
        "admin": [DeniedAddress("203.0.113.7", 3, now)],
    }
    found = await admin.get("/allowlist/denied")
    assert [(one["address"], one["listener"], one["denied"]) for one in found] == [
        ("10.31.4.9", "api", 812),
        ("203.0.113.7", "admin", 3),
        ("10.0.0.1", "api", 1),
    ]
    assert abs(datetime.fromisoformat(found[0]["last_seen"]).timestamp() - now) < 1
    assert [one["address"] for one in await admin.get("/allowlist/denied", limit=1)] == ["10.31.4.9"]
    assert (await refused(admin.get("/allowlist/denied", limit=1001))).code == "invalid"
