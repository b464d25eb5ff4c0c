"""appliance.security.server_names"""

from __future__ import annotations

import socket

import psutil
import pytest

from appliance.access_config import Listener
from appliance.security.server_names import server_names


def test_this_host_is_always_covered() -> None:
    names = server_names([Listener()])
    assert names[:3] == ("localhost", "127.0.0.1", "::1")
    assert len(set(names)) == len(names)
    ipv4 = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == 2}
    assert {address for address in ipv4 if not address.startswith("169.254.")} <= set(names)
    assert not any("%" in name or name.startswith("fe80:") for name in names)


def test_configured_names_come_in_one_spelling() -> None:
    names = server_names(
        [Listener(host="10.9.8.7", names=("LLM.Example", "2001:DB8:0::5", "*.apps.example", "llm.example"))]
    )
    assert {"10.9.8.7", "llm.example", "2001:db8::5", "*.apps.example"} <= set(names)
    assert names.count("llm.example") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_any_address_is_no_name(host: str) -> None:
    assert host not in server_names([Listener(host=host)])


def test_an_odd_host_name_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "my_host!")
    assert "my_host!" not in server_names([Listener()])


@pytest.mark.parametrize(
    "name", ["https://llm.example", "llm.example:8443", "größe.example", "-x.example", "a..b", "", "10.0.0", "a" * 254]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an address"):
        server_names([Listener(names=(name,))])
