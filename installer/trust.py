"""Which keys sign releases, as this host knows it: on its first day from paper, later from what was kept then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from installer.bundle import archive, content
from installer.durable import write_whole
from installer.errors import Refused
from installer.layout import Layout
from installer.signature import fingerprint, read_keys

CARRIED: Final = "release-key.pem"
_KEY_BYTES_MAX: Final = 4096


def trusted_keys(layout: Layout, bundle: Path, expected: str | None, ask: Callable[[str], bool]) -> dict[str, bytes]:
    """Those that were kept; where there are none, the bundle's own once its fingerprint is what was expected.

    expected: a fingerprint, which no other key counts beside. ask: puts a question to the operator, where nothing was
    expected. Raises Refused.
    """
    if kept := read_keys(layout.trusted_keys):
        if expected is None:
            return kept
        wanted = {name: pem for name, pem in kept.items() if _bare(fingerprint(pem)) == _bare(expected)}
        if not wanted:
            raise Refused(f"no key in {layout.trusted_keys} has the fingerprint that was given")
        return wanted
    pem = _carried(bundle)
    shown = fingerprint(pem)
    if expected is not None:
        if _bare(expected) != _bare(shown):
            raise Refused(f"the bundle's key has the fingerprint\n  {shown}\nand not the one that was given")
    elif not ask(f"The bundle says that it was signed by the key\n  {shown}\nIs that what you have on paper?"):
        raise Refused("without a key that is trusted nothing is installed")
    return {f"{_bare(shown)[:16]}.pem": pem}


def keep(layout: Layout, keys: dict[str, bytes]) -> None:
    layout.trusted_keys.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, pem in keys.items():
        write_whole(layout.trusted_keys / name, pem)


def _carried(bundle: Path) -> bytes:
    """Read without trust: it counts for what its fingerprint says, and no more."""
    with archive(bundle) as tar:
        for member in tar:
            if member.name == CARRIED and member.isreg():
                return content(tar, member, _KEY_BYTES_MAX)
    raise Refused(f"{bundle} has no {CARRIED}: it is no bundle of this product")


def _bare(shown: str) -> str:
    return "".join(shown.split()).replace(":", "").lower()
