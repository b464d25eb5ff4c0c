"""appliance.telemetry.route_templates"""

from __future__ import annotations

import pytest

from appliance.api.app import api_routes
from appliance.telemetry.route_templates import RouteTemplates

TEMPLATES = RouteTemplates(route.path for route in api_routes())


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/models", "/models"),
        ("/v1/models/org/name:tag", "/v1/models/{model}"),
        ("/v1/responses/resp_1", "/v1/responses/{id}"),
        ("/v1/responses/resp_1/input_items", "/v1/responses/{id}/input_items"),
        ("/v1/responses/a/b/c", "other"),
        ("/.env", "other"),
        ("", "other"),
    ],
)
def test_what_a_path_is_called(path: str, template: str) -> None:
    assert TEMPLATES.of(path) == template
