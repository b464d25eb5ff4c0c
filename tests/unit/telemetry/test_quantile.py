"""appliance.telemetry.quantile"""

from __future__ import annotations

from appliance.telemetry.quantile import quantile


def test_quantiles_are_by_nearest_rank() -> None:
    ordered = [number / 100 for number in range(100)]
    assert (quantile(ordered, 0.5), quantile(ordered, 0.95), quantile(ordered, 1.0)) == (0.5, 0.95, 0.99)
    assert quantile([], 0.5) is None
