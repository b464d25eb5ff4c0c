"""appliance.first_run.trial"""

from __future__ import annotations

import pytest

from appliance.errors import ConfigError
from appliance.first_run.answers import Answers, ServedFile
from appliance.first_run.trial import check_taken
from tests.unit.first_run.test_files import FULL


@pytest.mark.parametrize("answers", [Answers(), FULL])
def test_what_the_product_takes(answers: Answers) -> None:
    check_taken(answers)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (Answers(allow=("junk",)), r"refused: .*allow.*junk"),
        (Answers(allow=("192.0.2.5/24",)), "192.0.2.5/24"),
        (Answers(allow=("192.0.2.0/24\nExecStartPre=/x",)), "allow"),
        (Answers(names=("a..b",)), "names"),
        (Answers(models=(ServedFile(id="a", file="a.gguf"),) * 2), r"/etc/appliance/models.yaml:\d+: the name 'a'"),
        (Answers(address="fe80::1%x\nExecStartPre=/x"), "address"),
    ],
)
def test_what_it_would_not_start_with(answers: Answers, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_taken(answers)
