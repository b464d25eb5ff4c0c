"""Verdicts on models: files, and whether they fit."""

from __future__ import annotations

from appliance.doctor.models import Served, file_verdicts, memory_verdicts
from appliance.types import HardwareReading, HostReading, ModelSpec
from tests.unit.placement.making import facts

GIB = 2**30


def reading(gib: int) -> HardwareReading:
    return HardwareReading(host=HostReading(total_bytes=gib * GIB, available_bytes=0, cpu_busy=0.5))


def served(name: str, *, preload: bool = False) -> Served:
    spec = ModelSpec(id=name, path="x.gguf", n_ctx=4096, preload=preload)
    return Served(id=name, trouble=None, spec=spec, facts=facts(layer_mib=400))


def test_files() -> None:
    broken = Served(id="b", trouble="b: the file has changed since it was imported")
    verdicts = file_verdicts([served("a"), broken, Served(id="up", trouble=None)])
    assert [(one.level, one.found) for one in verdicts] == [
        ("error", "b: the file has changed since it was imported"),
        ("ok", "a, up: there and unchanged"),
    ]
    assert file_verdicts([]) == []


def test_a_model_that_fits_and_one_that_never_will() -> None:
    assert [one.level for one in memory_verdicts([served("a"), Served(id="up", trouble=None)], reading(500))] == ["ok"]
    (none,) = memory_verdicts([served("a")], reading(1))
    assert none.level == "error" and none.next_step
    assert memory_verdicts([served("a")], None)[0].level == "warning"


def test_models_that_are_to_be_loaded_together() -> None:
    three = [served(name, preload=True) for name in ("a", "b", "c")]
    alone = next(gib for gib in range(1, 500) if memory_verdicts([three[0]], reading(gib))[0].level == "ok")
    verdicts = memory_verdicts(three, reading(alone))
    assert [one.level for one in verdicts] == ["warning", "warning"]
    assert "b does not fit beside a" in verdicts[0].found
    assert [one.level for one in memory_verdicts(three, reading(4 * alone))] == ["ok"]
