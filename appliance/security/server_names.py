"""The host names and addresses that the server certificate must cover, found without asking the network."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final

import psutil

from appliance.access_config import Listener

HOST_ADDRESSES_MAX: Final = 64
_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_DNS_NAME_CHARS_MAX: Final = 253


def server_names(listeners: Iterable[Listener]) -> tuple[str, ...]:
    """localhost, this host's name and addresses, and what the listeners' `host` and `names` add; each once.

    Raises ValueError for an entry of `names` that is neither a host name nor an address. This host's own name is left
    out where it is no valid DNS name.
    """
    configured, hosts = [], [socket.gethostname()]
    for listener in listeners:
        configured += [_checked(name) for name in listener.names]
        hosts.append(listener.host)
    own = [name for name in hosts if _canonical(name) is not None]
    found: Iterable[str] = (*_ALWAYS, *configured, *own, *_host_addresses())
    canonical = [name for text in found if (name := _canonical(text)) is not None]
    return tuple(dict.fromkeys(canonical))


def is_dns_name(text: str) -> bool:
    """Whether this is a host's name, or a wildcard for hosts' names. All digits and dots would be an address."""
    fits = len(text) <= _DNS_NAME_CHARS_MAX and _DNS_NAME.fullmatch(text) is not None
    return fits and not text.replace(".", "").isdigit()


def _checked(name: str) -> str:
    if _canonical(name) is None:
        raise ValueError(
            f"{name!r} is neither a host name nor an address; "
            "write it without scheme and port, and an international name in its xn-- form"
        )
    return name


def _canonical(name: str) -> str | None:
    """The one spelling of a name or address; None for anything else, and for 'any address'."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.lower() if is_dns_name(name) else None
    return None if address.is_unspecified else str(address)


def _host_addresses() -> list[str]:
    """Addresses of this host's interfaces; link-local ones need a scope and so no certificate can name them."""
    texts = [
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return sorted(text for text in texts if not ipaddress.ip_address(text).is_link_local)[:HOST_ADDRESSES_MAX]
