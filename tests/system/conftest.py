"""One booted system of each distribution for the tests of the units: what they do to it they put right again."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.system import product
from tests.system.bundles import Bundles
from tests.system.clean_root import clean_root, layered, missing
from tests.system.distributions import DISTRIBUTIONS, Distribution
from tests.system.machine import Machine, booted

BUILD = product.SOURCE / "build/system"


@pytest.fixture(scope="session")
def bundles() -> Bundles:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    return Bundles(BUILD / "bundles")


@pytest.fixture(scope="session", params=DISTRIBUTIONS, ids=str)
def distribution(request: pytest.FixtureRequest) -> Distribution:
    """Each one of them that can be had here."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    found: Distribution = request.param
    try:
        clean_root(found, BUILD)
    except ConnectionError as error:
        pytest.skip(f"nothing is run on {found}, whose archive cannot be reached: {error}")
    return found


@pytest.fixture(scope="session")
def machine(
    distribution: Distribution, bundles: Bundles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """One that has booted with the product serving its demo model."""
    folder = tmp_path_factory.mktemp("system")
    with layered(clean_root(distribution, BUILD), folder) as root:
        product.install_release(root, distribution, bundles.first)
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
