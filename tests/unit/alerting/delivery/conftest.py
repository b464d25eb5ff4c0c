"""A certificate of 127.0.0.1, and what is told."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from appliance.alerting.message import Sender, Told
from tests.unit.alerting.delivery.servers import server_context
from tests.unit.alerting.making import START
from tests.unit.audit.test_siem import make_certificate

SENDER = Sender(host="box", version="1.2")


def told(name: str = "GpuHot", what: str = "g0", **more: object) -> Told:
    fields = {
        "kind": "firing",
        "name": name,
        "what": what,
        "severity": "warning",
        "summary": "GPU 0 is at 90 °C",
        "fired": START,
        "ended": None,
        "at": START,
    }
    return Told(**{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1; the certificate is its own authority."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("pair"))
    key.chmod(0o600)
    certificate.chmod(0o644)
    return certificate, key


@pytest.fixture
def tls(pair: tuple[Path, Path]) -> ssl.SSLContext:
    return server_context(*pair)


@pytest.fixture
def ca(pair: tuple[Path, Path]) -> str:
    return str(pair[0])
