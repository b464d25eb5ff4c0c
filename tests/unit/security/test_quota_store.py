"""appliance.security.quota_store"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from appliance.access_config import PrincipalSettings
from appliance.errors import StateError
from appliance.security.limits import Admission, PrincipalLimits
from appliance.security.period_sums import PeriodSums, TokenSums
from appliance.security.quota_store import FILE_BYTES_MAX, QuotaStore
from appliance.state_dir import write_atomic

NOW = datetime(2026, 3, 30, 12, 30, 1, 5, tzinfo=UTC)
TODAY = date(2026, 3, 30)


def sums_of(tokens: int) -> TokenSums:
    return TokenSums(days=PeriodSums(used={TODAY: tokens}), months=PeriodSums(used={date(2026, 3, 1): tokens}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quotas.json"


def test_no_file_is_nothing_used(path: Path) -> None:
    loaded = QuotaStore(path).load(NOW)
    assert (loaded.sums, loaded.damage) == ({}, None)


def test_sums_survive_the_file(path: Path) -> None:
    assert QuotaStore(path).save({"app": sums_of(5), "bob": sums_of(7)})
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = QuotaStore(path).load(NOW)
    assert loaded.damage is None
    assert loaded.sums == {"app": sums_of(5), "bob": sums_of(7)}
    assert json.loads(path.read_text())["principals"]["app"]["days"]["used"] == {"2026-03-30": 5}


def test_what_limits_counted_goes_on_after_a_restart(path: Path) -> None:
    settings = PrincipalSettings(tokens_per_day=100)
    limits = PrincipalLimits()
    outcome = limits.admit("app", settings, 80, 0, NOW)
    assert isinstance(outcome, Admission)
    outcome.settle(90, 1)
    QuotaStore(path).save(limits.sums())
    restarted = PrincipalLimits()
    restarted.restore(QuotaStore(path).load(NOW).sums)
    assert restarted.sums() == limits.sums()
    assert restarted.check("app", settings, 10, 0, NOW) is None
    assert restarted.check("app", settings, 11, 0, NOW) is not None


def test_it_is_written_only_when_it_changes(path: Path) -> None:
    store = QuotaStore(path)
    assert store.save({"a": sums_of(1), "b": sums_of(2)})
    before = path.stat()
    assert not store.save({"b": sums_of(2), "a": sums_of(1)})
    assert path.stat().st_ino == before.st_ino
    assert store.save({"a": sums_of(3), "b": sums_of(2)})
    again = QuotaStore(path)
    loaded = again.load(NOW)
    assert not again.save(loaded.sums)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"version": 2, "principals": {}}',
        b'{"version": 1, "principals": {"../x": {"days": {}, "months": {}}}}',
        b'{"version": 1, "principals": {"app": {"days": {"used": {"2026-01-01": -5}}, "months": {}}}}',
        b'{"version": 1, "principals": {"app": {"days": {}}}}',
    ],
)
def test_a_damaged_file_is_kept_aside_and_reported(path: Path, content: bytes) -> None:
    write_atomic(path, content)
    store = QuotaStore(path)
    loaded = store.load(NOW)
    assert loaded.sums == {}
    assert loaded.damage is not None
    assert loaded.damage.startswith(f"{path} is damaged (")
    assert loaded.damage.endswith(
        "it was kept as quotas.json.damaged-20260330T123001.000005Z. Tokens used today and this month count from zero"
    )
    assert (path.parent / "quotas.json.damaged-20260330T123001.000005Z").read_bytes() == content
    assert not path.exists()
    assert store.save({"app": sums_of(1)})
    assert QuotaStore(path).load(NOW).sums == {"app": sums_of(1)}


def test_a_file_that_others_could_write_counts_as_damaged(path: Path) -> None:
    QuotaStore(path).save({"app": sums_of(1)})
    path.chmod(0o666)
    loaded = QuotaStore(path).load(NOW)
    assert loaded.sums == {}
    assert "mode 0666" in (loaded.damage or "")


@pytest.mark.parametrize("kind", ["folder", "dangling link", "link", "huge"])
def test_what_is_no_such_file_at_all(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "link":
        write_atomic(path.parent / "elsewhere", b'{"version": 1, "principals": {}}')
        path.symlink_to("elsewhere")
    else:
        write_atomic(path, b"")
        with path.open("r+b") as file:
            file.truncate(FILE_BYTES_MAX + 1)
    store = QuotaStore(path)
    assert store.load(NOW).damage is not None
    assert store.save({"app": sums_of(1)})
    assert QuotaStore(path).load(NOW).sums == {"app": sums_of(1)}


def test_one_that_cannot_be_kept_aside_is_reported_all_the_same(path: Path) -> None:
    write_atomic(path, b"{")
    (path.parent / "quotas.json.damaged-20260330T123001.000005Z").mkdir()
    loaded = QuotaStore(path).load(NOW)
    assert "could not be kept aside" in (loaded.damage or "")


def test_a_write_that_fails_is_tried_again(path: Path) -> None:
    store = QuotaStore(path / "missing" / "quotas.json")
    for _ in range(2):
        with pytest.raises(StateError):
            store.save({"app": sums_of(1)})
    (path / "missing").mkdir(parents=True)
    assert store.save({"app": sums_of(1)})
