"""The fence of systemd's units behind the allowlist: a command that lets a network in says where the fence does not.

IPAddressAllow= of a unit is the kernel's (systemd.resource-control(5)), and nothing of the appliance may change it. The
service itself cannot ask for it from within its sandbox; a command runs on the host, where systemd tells everybody.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import typer

from appliance.cli.common import Appliance
from appliance.cli.options import DEFAULT_STATE, REMOTE_ENV

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Those with a fence are among them: the front, and one socket unit for each listener.
_COMMAND: Final = (
    *("systemctl", "show", "--no-pager", "--property=Id,IPAddressAllow,IPAddressDeny"),
    *("appliance.service", "appliance*.socket"),
)
_SECONDS_MAX: Final = 5.0
_SHOWN_MAX: Final = 5
_NEXT: Final = (
    "add it to IPAddressAllow= in /etc/systemd/system/UNIT.d/site.conf of each of these units, then `systemctl "
    "daemon-reload` and `systemctl restart appliance.socket`"
)


@dataclass(frozen=True, slots=True)
class Fence:
    """Of one unit. An address passes that is in `allow`, or not in `deny`."""

    unit: str
    allow: tuple[Network, ...]
    deny: tuple[Network, ...]

    def stops(self, network: Network) -> bool:
        """Whether some address of it does not pass."""
        return any(
            not any(_within(part, passed) for passed in self.allow)
            for part in (_common(network, denied) for denied in self.deny)
            if part is not None
        )


def read_fences(command: Sequence[str] = _COMMAND) -> tuple[Fence, ...]:
    """Those of this host, as systemd has them now; none where it has no such units, or does not tell. Blocking."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
        )
        return tuple(parse_fences(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ()


def parse_fences(shown: str) -> Iterator[Fence]:
    """From what `systemctl show` says: a paragraph for each unit. Raises ValueError."""
    for paragraph in shown.strip().split("\n\n"):
        found = dict(line.partition("=")[::2] for line in paragraph.splitlines())
        if found.get("IPAddressDeny"):
            allow, deny = (_networks(found.get(name, "")) for name in ("IPAddressAllow", "IPAddressDeny"))
            yield Fence(found.get("Id", ""), allow, deny)


def faults(networks: Iterable[str], fences: Iterable[Fence]) -> list[str]:
    """A sentence for each fence that stops some of these networks."""
    wanted = [ipaddress.ip_network(each, strict=False) for each in networks]
    said = []
    for fence in fences:
        if stopped := [str(each) for each in wanted if fence.stops(each)]:
            more = f" and {len(stopped) - _SHOWN_MAX} more" if len(stopped) > _SHOWN_MAX else ""
            said.append(f"IPAddressAllow= of {fence.unit} does not let {', '.join(stopped[:_SHOWN_MAX])}{more} through")
    return said


def warn(appliance: Appliance, networks: Iterable[str] | None = None) -> None:
    """Says on standard error which of these networks do not come through, and what to do.

    networks: None stands for all that may connect. Says nothing where the appliance is not the one that systemd runs on
    this host. Raises ApplianceError.
    """
    if appliance.state_dir != DEFAULT_STATE or os.environ.get(REMOTE_ENV) or not (fences := read_fences()):
        return
    if networks is None:
        networks = [entry["network"] for entry in appliance.ask("/allowlist")["entries"]]
    if said := faults(networks, fences):
        typer.echo(f"warning: {'; '.join(said)}: {_NEXT}", err=True)


def _networks(text: str) -> tuple[Network, ...]:
    """Neighbours made one, so that what they hold together is within one of them. Raises ValueError."""
    found = [ipaddress.ip_network(word, strict=False) for word in text.split()]
    v4 = [each for each in found if isinstance(each, ipaddress.IPv4Network)]
    v6 = [each for each in found if isinstance(each, ipaddress.IPv6Network)]
    return (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))


def _common(one: Network, other: Network) -> Network | None:
    """What is in both: of two networks that touch, one is within the other."""
    if one.version != other.version or not one.overlaps(other):
        return None
    return one if one.prefixlen >= other.prefixlen else other


def _within(one: Network, other: Network) -> bool:
    return _common(one, other) == one
