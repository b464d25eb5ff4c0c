"""A chat's fields by the names of another API."""

from __future__ import annotations

from msgspec.structs import replace

from appliance.api.field_names import FieldNames
from appliance.errors import RequestError
from appliance.types import Constraint, Request, TextPrompt

NAMES = FieldNames({"a.b": "x", "a": "y"})
REQUEST = Request(id="r", model="m", principal="p", prompt=TextPrompt(text="x"), cache_domain="d")


def test_a_field_and_what_is_inside_of_it() -> None:
    assert [NAMES.of(param) for param in ("a", "a.b", "a.b.c", "a[2].b", "ab", "b")] == (
        ["y", "x", "x.c", "y[2].b", "ab", "b"]
    )


def test_an_error_names_the_field_that_was_written() -> None:
    ours = NAMES.error(RequestError("invalid_request", "a.b.c: no", param="a.b.c", details={"n": 1}))
    assert (ours.message, ours.param, ours.details) == ("x.c: no", "x.c", {"n": 1})
    for same in (RequestError("invalid_request", "stop: no", param="stop"), RequestError("queue_full", "full")):
        assert NAMES.error(same) is same


def test_what_the_worker_refuses_does_so_too() -> None:
    constrained = replace(REQUEST, constraint=Constraint(kind="regex", text="a", param="a.b"))
    constraint = NAMES.request(constrained).constraint
    assert constraint is not None and constraint.param == "x"
    assert NAMES.request(REQUEST) is REQUEST
