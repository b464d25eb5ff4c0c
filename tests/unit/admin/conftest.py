"""Fixtures of the admin API's unit tests."""

from __future__ import annotations

from tests.admin.conftest import founded, state

__all__ = ["founded", "state"]
