"""appliance.worker.nvml, with real pynvml and a driver's library of our own"""

from __future__ import annotations

import pytest

from appliance.types import DeviceBytes, GpuReading, ProcessBytes
from appliance.worker.nvml import Nvml, NvmlError, open_nvml, own_device_bytes, visible
from tests.fakes.nvml import VARIABLE, fake_nvml

GIB = 2**30
SENSORS = (
    "busy",
    "memory_busy",
    "temperature_celsius",
    "power_watts",
    "power_limit_watts",
    "sm_mhz",
    "pcie_receive_bytes_per_second",
    "pcie_transmit_bytes_per_second",
    "ecc_corrected",
    "ecc_uncorrected",
)
READING = GpuReading(
    uuid="GPU-aa",
    name="Card 0",
    total_bytes=80 * GIB,
    free_bytes=18 * GIB,
    used_bytes=61 * GIB,
    reserved_bytes=GIB,
    busy=0.87,
    memory_busy=0.4,
    temperature_celsius=61,
    power_watts=412.5,
    power_limit_watts=700.0,
    sm_mhz=1980,
    pcie_receive_bytes_per_second=3e6,
    pcie_transmit_bytes_per_second=2e6,
    ecc_corrected=5,
    ecc_uncorrected=1,
    throttle=("power cap", "hardware thermal slowdown"),
    xid_errors=0,
    processes=(ProcessBytes(7, 57 * GIB), ProcessBytes(99, 3 * GIB)),
)


@pytest.fixture(autouse=True)
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


class Driver:
    """The machine's driver, of which a test says what is wrong with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_nvml()
        self._monkeypatch = monkeypatch
        self("well")

    def __call__(self, words: str) -> None:
        self._monkeypatch.setenv(VARIABLE, words)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


def gpus() -> tuple[GpuReading, ...]:
    session = open_nvml()
    try:
        return session.gpus()
    finally:
        session.close()


def test_a_reading_has_everything_in_our_units(driver: Driver) -> None:
    first, second = gpus()
    assert first == READING
    assert (second.uuid, second.name, second.processes) == ("GPU-bb", "Card 1", ())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("not_loaded", "modprobe nvidia"),
        ("mismatch", "reboot, or reload nvidia.ko"),
        ("no_access", "DeviceAllow=/dev/nvidia"),
        ("broken", "the NVIDIA driver cannot be asked: Unknown Error"),
    ],
)
def test_a_driver_that_does_not_answer_says_what_to_do(driver: Driver, words: str, says: str) -> None:
    driver(words)
    with pytest.raises(NvmlError, match=says):
        gpus()


def test_no_driver_is_no_fault_of_the_machine(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(NvmlError, match="models run on the processor"):
        gpus()


def test_a_machine_without_cards_has_none(driver: Driver) -> None:
    driver("no_cards")
    assert gpus() == ()


def test_what_a_gpu_has_no_sensor_for_is_left_out(driver: Driver) -> None:
    driver("bare")
    first = gpus()[0]
    assert {getattr(first, name) for name in SENSORS} == {None}
    assert (first.throttle, first.xid_errors, first.trouble) == ((), None, None)
    assert first.used_bytes == 61 * GIB


def test_an_older_driver_tells_less(driver: Driver) -> None:
    driver("old_driver")
    first = gpus()[0]
    assert (first.free_bytes, first.reserved_bytes, first.throttle) == (19 * GIB, None, ("power cap",))


def test_a_gpu_that_is_lost_does_not_take_the_other_with_it(driver: Driver) -> None:
    driver("lost")
    first, second = gpus()
    assert first == READING
    assert (second.uuid, second.name) == ("gpu1", "GPU 1")
    assert second.trouble is not None and "GPU is lost" in second.trouble
    assert second.total_bytes is None


def test_one_that_is_lost_while_it_is_watched_keeps_its_name(driver: Driver) -> None:
    session = open_nvml()
    assert session.gpus()[1].trouble is None
    driver("falls_off")
    first, second = session.gpus()
    session.close()
    assert first == READING
    assert (second.uuid, second.name) == ("GPU-bb", "Card 1")
    assert second.trouble is not None


def test_memory_that_cannot_be_read_is_a_fault_of_that_gpu(driver: Driver) -> None:
    driver("broken_memory")
    first, second = gpus()
    assert first.trouble is None
    assert (second.trouble, second.total_bytes, second.busy) == ("its memory cannot be read: Unknown Error", None, 0.87)


def test_without_memory_only_known_parts_have_the_hosts(driver: Driver) -> None:
    driver("no_memory")
    assert [(gpu.total_bytes, gpu.memory_unified, gpu.trouble) for gpu in gpus()] == [(None, False, None)] * 2
    driver("integrated")
    assert [(gpu.total_bytes, gpu.memory_unified, gpu.name) for gpu in gpus()] == [(None, True, "NVIDIA GB10")] * 2


def test_instances_of_a_gpu_that_is_cut(driver: Driver) -> None:
    driver("mig")
    first, second = gpus()
    assert first.busy is None and second.instances == ()
    assert [(one.uuid, one.total_bytes, one.busy) for one in first.instances] == [
        ("MIG-10", 10 * GIB, None),
        ("MIG-13", 10 * GIB, None),
    ]


def test_processes_that_may_not_be_seen(driver: Driver) -> None:
    driver("no_processes")
    first = gpus()[0]
    assert (first.processes, first.processes_trouble, first.used_bytes) == ((), "no permission", 61 * GIB)
    driver("no_sizes")
    assert gpus()[0].processes == (ProcessBytes(7, None), ProcessBytes(99, 3 * GIB))


def test_faults_are_counted_once(driver: Driver) -> None:
    driver("xid")
    session = open_nvml()
    for _ in range(2):
        first, second = session.gpus()
        assert (first.xid_errors, first.newest_xid, second.xid_errors) == (1, 79, 0)
    session.close()


def test_gpus_that_are_hidden_from_the_engine_are_not_there(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.uuid for gpu in gpus()] == ["GPU-bb"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == ()


@pytest.mark.parametrize(
    ("names", "left"),
    [("0,1,2", [0, 1, 2]), ("2, 0", [2, 0]), ("GPU-b,0", [1, 0]), ("1,9,0", [1]), ("-1", []), ("", []), ("1,1", [1])],
)
def test_visible_devices(names: str, left: list[int]) -> None:
    assert visible(["GPU-aa", "GPU-bb", "GPU-cc"], names) == left


def test_memory_of_one_process(driver: Driver) -> None:
    session = open_nvml()
    assert session.bytes_of(99) == (DeviceBytes(uuid="GPU-aa", bytes=3 * GIB),)
    assert session.bytes_of(9) == ()
    driver("no_sizes")
    assert session.bytes_of(7) == ()
    driver("no_processes")
    with pytest.raises(NvmlError, match="no permission"):
        session.bytes_of(7)
    session.close()


def test_a_worker_without_a_driver_has_nothing_on_gpus(driver: Driver) -> None:
    def no_driver() -> Nvml:
        raise NvmlError("none")

    assert own_device_bytes(no_driver) == ()
    assert own_device_bytes() == ()
    driver("no_processes")
    assert own_device_bytes() == ()
