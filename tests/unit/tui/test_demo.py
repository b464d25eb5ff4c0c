"""The made-up appliance: always the same from a seed."""

from __future__ import annotations

import msgspec
import pytest

from appliance.alerting.rules import RULES
from appliance.telemetry.snapshot import Snapshot
from tui.admin_data import Allowlist, ApiKeyRow, AuditRow, Certificates, Preflight, read
from tui.demo.answers import Answers
from tui.demo.scenario import SCENARIOS, ScenarioName, scenario_of
from tui.demo.source import FROZEN_MOMENT, DemoSource
from tui.demo.world import World


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_seed_gives_the_same_figures(name: ScenarioName) -> None:
    one, other = (World(7, scenario_of(name), FROZEN_MOMENT) for _ in range(2))
    assert one.snapshot(FROZEN_MOMENT) == other.snapshot(FROZEN_MOMENT)
    second = int(FROZEN_MOMENT)
    assert list(one.requests(second)) == list(other.requests(second))
    encoded = msgspec.json.encode(one.snapshot(FROZEN_MOMENT))
    assert msgspec.json.decode(encoded, type=Snapshot) == one.snapshot(FROZEN_MOMENT)


@pytest.mark.parametrize("name", SCENARIOS)
def test_answers_have_the_admin_apis_form(name: ScenarioName) -> None:
    answers = Answers(scenario_of(name), FROZEN_MOMENT)
    read(tuple[ApiKeyRow, ...], answers.to("/keys"))
    read(Certificates, answers.to("/certificates"))
    read(Allowlist, answers.to("/allowlist"))
    read(tuple[AuditRow, ...], answers.to("/audit/records"))
    for model in scenario_of(name).models:
        found = read(Preflight, answers.to(f"/instances/{model.id}/preflight"))
        assert found.fits or found.reason is not None


async def test_the_first_update_has_what_there_is() -> None:
    source = DemoSource(1, "calm", now=lambda: FROZEN_MOMENT, frozen=True, history_seconds=10)
    async for update in source.updates():
        assert update.snapshot is not None
        assert [record.time for record in update.requests]
        break


@pytest.mark.parametrize("name", SCENARIOS)
def test_its_alerts_are_those_of_the_appliance(name: ScenarioName) -> None:
    known = {(rule.name, rule.severity) for rule in RULES}
    assert {(alert.name, alert.severity) for alert in scenario_of(name).alerts} <= known
