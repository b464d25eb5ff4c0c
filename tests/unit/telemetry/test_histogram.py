"""appliance.telemetry.histogram, judged by prometheus_client's reader and its own histogram"""

from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from appliance.telemetry.histogram import Histogram

BOUNDS = (0.1, 0.5, 1, 20)


def samples(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (sample.name, sample.labels["model_name"], sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.tuples(st.sampled_from(["a", 'b"\\\n']), st.floats(0, 100) | st.sampled_from(BOUNDS)), max_size=30))
def test_it_says_what_prometheus_client_would(observed: list[tuple[str, float]]) -> None:
    ours = Histogram("x_seconds", "Some time.", BOUNDS)
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("x_seconds", "Some time.", ["model_name"], registry=registry, buckets=BOUNDS)
    for model, value in observed:
        ours.observe(model, value)
        theirs.labels(model).observe(value)
    assert samples(ours.text()) == samples(prometheus_client.generate_latest(registry).decode())


def test_several_at_once() -> None:
    ours = Histogram("x_seconds", "Some time.", BOUNDS)
    ours.observe("a", 0.5, times=3)
    found = samples(ours.text())
    assert found["x_seconds_bucket", "a", "0.1"] == 0 and found["x_seconds_bucket", "a", "0.5"] == 3
    assert (found["x_seconds_count", "a", ""], found["x_seconds_sum", "a", ""]) == (3, 1.5)
