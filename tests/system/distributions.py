"""The systems that docs/INSTALL.md promises, as debootstrap makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Distribution:
    """suite: its name in its archive. python: what its `python3` is, as "3.11". packages: beside those of every system.

    script: debootstrap's for it, which also knows the archive; None where this host's apt names the archive.
    """

    suite: str
    python: str
    packages: tuple[str, ...] = ()
    script: str | None = None
    components: str = "main"

    def __str__(self) -> str:
        return self.suite


BOOKWORM: Final = Distribution("bookworm", "3.11")
# Ubuntu's keys come by Debian's archive, and with its signature; that of bookworm has none.
TRIXIE: Final = Distribution("trixie", "3.13", packages=("ubuntu-keyring",))
# Older debootstraps do not know the name; all later Ubuntus are made by the one script.
NOBLE: Final = Distribution("noble", "3.12", script="gutsy", components="main,universe")
DISTRIBUTIONS: Final = (BOOKWORM, TRIXIE, NOBLE)
