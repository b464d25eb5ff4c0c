"""docs/ADMIN_API.md has a row for every route, and says of it what the table of routes says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
import pytest

from appliance.admin.route import Route
from appliance.admin.routes import ROUTES

DOC: Final = Path(__file__).parents[3] / "docs" / "ADMIN_API.md"
ROW: Final = re.compile(
    r"\| `(?P<method>GET|POST) (?P<path>/\S*)` \| (?P<action>\S+) \| (?P<roles>[vosa ]+) "
    r"\|(?P<body>[^|]*)\|(?P<answer>.*)\|"
)
LETTERS: Final = {"viewer": "v", "operator": "o", "security": "s", "auditor": "a"}


def rows() -> dict[str, re.Match[str]]:
    found = [ROW.fullmatch(line) for line in DOC.read_text().splitlines() if line.startswith(("| `GET ", "| `POST "))]
    assert all(found), "a row of another form"
    return {f"{row['method']} {row['path']}": row for row in found if row is not None}


def test_the_document_has_the_routes_and_no_other() -> None:
    assert sorted(rows()) == sorted(f"{route.method} {route.path}" for route in ROUTES)
    lines = [line for line in DOC.read_text().splitlines() if line.startswith(("| `GET ", "| `POST "))]
    assert len(lines) == len(ROUTES), "a row is there twice"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_row_says_what_the_table_says(route: Route) -> None:
    row = rows()[f"{route.method} {route.path}"]
    assert row["action"] == route.action
    assert sorted(row["roles"].split()) == sorted(LETTERS[role] for role in route.roles)
    fields = () if route.body is None else msgspec.structs.fields(route.body)
    for field in fields:
        assert f"`{field.name}`" in row["body"], f"{field.name} is missing"
    if route.body is None:
        assert not row["body"].strip()
    assert ("**no plan**" in row["answer"]) == (not route.plans)
    assert ("never needs a second person" in row["answer"]) == route.alone
