"""One booted system for all tests of this folder: they are told apart by what they do to it, and put it right again."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.system import product
from tests.system.debian import clean_root, layered, missing
from tests.system.machine import Machine, booted

SUITE = "bookworm"


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Debian 12 that has booted with the product serving its demo model."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("system")
    with layered(clean_root(SUITE, product.SOURCE / "build/system"), folder) as root:
        product.install_release(root)
        product.install_units(root)
        product.serve_demo(root)
        with booted(root, folder / "console") as machine:
            yield machine


@pytest.fixture
def journal_of_failures(machine: Machine) -> Iterator[None]:
    """Prints what the system's log got during a test, which pytest shows where that fails."""
    since = machine.run("date", "+%s.%N").stdout.strip()
    yield
    sys.stdout.write(machine.journal(f"--since=@{since}"))
