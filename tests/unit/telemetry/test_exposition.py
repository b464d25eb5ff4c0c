"""appliance.telemetry.exposition, judged by prometheus_client's reader and its own writer"""

from __future__ import annotations

import math

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from appliance.telemetry import exposition
from appliance.telemetry.exposition import Counter, FamilyWriter

NAMES = st.sampled_from(["a", 'b"\\\n', "%s", "模型", ""])


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.tuples(NAMES, NAMES, st.integers(0, 10**12)), max_size=20))
def test_a_counter_is_as_prometheus_client_would_have_it(added: list[tuple[str, str, int]]) -> None:
    ours = Counter("x_things", "Some.", ("one", "two"))
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Counter("x_things", "Some.", ["one", "two"], registry=registry)
    for one, two, amount in added:
        ours.add(one, two, amount=amount)
        theirs.labels(one, two).inc(amount)
    assert samples(ours.text()) == samples(prometheus_client.generate_latest(registry).decode())
    heads = [line for line in ours.text().splitlines() if line.startswith("#")]
    assert heads == ["# HELP x_things_total Some.", "# TYPE x_things_total counter"]


class Families:
    """A registry's collector of families that are made already."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> tuple[Metric, ...]:
        return self._families


@given(st.dictionaries(NAMES, st.floats(allow_nan=False), max_size=5))
def test_families_are_as_prometheus_client_would_write_them(values: dict[str, float]) -> None:
    gauge = GaugeMetricFamily("x_level", "How much.", labels=["model_name"])
    for name, value in values.items():
        gauge.add_metric([name], value)
    counter = CounterMetricFamily("x_times", "How often.")
    counter.add_metric([], 7)
    families = (gauge, counter, GaugeMetricFamily("x_none", "Nothing."))
    registry = prometheus_client.CollectorRegistry()
    registry.register(Families(*families))
    writer = FamilyWriter()
    for _ in range(2):
        assert samples(writer.text(families)) == samples(prometheus_client.generate_latest(registry).decode())


def test_what_is_no_number_is_written_as_go_reads_it() -> None:
    assert [exposition.number(value) for value in (math.inf, -math.inf, math.nan, 1.5, 3)] == [
        *("+Inf", "-Inf", "NaN", "1.5", "3")
    ]


def test_labels_beyond_the_bound_are_written_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "_PREFIXES_MAX", 1)
    gauge = GaugeMetricFamily("x_level", "How much.", labels=["model_name"])
    for name in ("a", "b"):
        gauge.add_metric([name], 1)
    assert len(samples(FamilyWriter().text([gauge]))) == 2
