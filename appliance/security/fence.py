"""The fence of systemd's units behind the allowlist: which networks it keeps out that the list lets in.

IPAddressAllow= of a unit is the kernel's (systemd.resource-control(5)), and nothing of the appliance may change it. Who
is kept out by it sees a timeout, and no log says a word. So whatever shows the list asks here: commands and dashboard
through the admin API, and the doctor.
"""

from __future__ import annotations

import asyncio
import ipaddress
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import Struct

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What appliance.service says. An appliance with another state directory is not that of the units.
UNIT_STATE: Final = Path("/var/lib/appliance")
# Those with a fence are among them: the front, and one socket unit for each listener.
_COMMAND: Final = (
    *("systemctl", "show", "--no-pager", "--property=Id,IPAddressAllow,IPAddressDeny"),
    *("appliance.service", "appliance*.socket"),
)
_SECONDS_MAX: Final = 2.0
# Units change by hand, and who has changed one looks again.
FRESH_SECONDS: Final = 10.0
_SHOWN_MAX: Final = 5
NEXT: Final = (
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


class Stopped(Struct, frozen=True, kw_only=True):
    """Networks of the allowlist, as they were given, that the fence of a unit does not let through."""

    unit: str
    networks: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For people."""
        more = f" and {len(self.networks) - _SHOWN_MAX} more" if len(self.networks) > _SHOWN_MAX else ""
        shown = ", ".join(self.networks[:_SHOWN_MAX])
        return f"IPAddressAllow= of {self.unit} does not let {shown}{more} through"


def stopped_by(fences: Iterable[Fence], networks: Iterable[str]) -> list[Stopped]:
    """Each fence that stops some of these networks. Pure."""
    wanted = {network: ipaddress.ip_network(network, strict=False) for network in networks}
    found = [
        Stopped(unit=fence.unit, networks=tuple(name for name, network in wanted.items() if fence.stops(network)))
        for fence in fences
    ]
    return [one for one in found if one.networks]


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


class FenceWatch:
    """Who asks often gets what was read up to FRESH_SECONDS ago. Belongs to the event loop.

    read: blocking.
    """

    def __init__(
        self, read: Callable[[], tuple[Fence, ...]] = read_fences, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._found: tuple[Fence, ...] = ()
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    @classmethod
    def of(cls, state: Path) -> FenceWatch:
        """Of the units that run the appliance with this state directory; no fences where they run another one."""
        return cls() if state == UNIT_STATE else cls(tuple)

    async def fences(self) -> tuple[Fence, ...]:
        """Those of this host; some milliseconds."""
        async with self._reading:
            if self._read_at is None or self._clock() - self._read_at > FRESH_SECONDS:
                self._found = await asyncio.to_thread(self._read)
                self._read_at = self._clock()
            return self._found


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
