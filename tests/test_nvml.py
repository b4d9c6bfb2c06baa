"""The driver's answers, its refusals, and which GPUs a process tree works on."""

from types import SimpleNamespace

import pytest
from nvml_standin import NO_PERMISSION, UNKNOWN, Error, NvmlStandin, process

from monitor.nvml import Chosen, Driver


def test_what_is_not_supported_is_asked_once_and_what_fails_for_once_again() -> None:
    library = NvmlStandin({"Temperature": Error(NO_PERMISSION), "PowerUsage": [Error(UNKNOWN), 70_000]}, {"Temperature": 40})
    driver = Driver(library)
    assert [driver.ask("TotalEnergyConsumption", 0) for _ in range(3)] == [None] * 3
    assert [driver.ask("Temperature", 0, 0) for _ in range(3)] == [None] * 3
    assert library.asked == [("TotalEnergyConsumption", 0), ("Temperature", 0)]
    assert driver.ask("Temperature", 1, 0) == 40
    assert [driver.ask("PowerUsage", 0), driver.ask("PowerUsage", 0)] == [None, 70_000]


def test_gpus_are_described_by_what_they_tell() -> None:
    library = NvmlStandin(
        {"Name": b"Test GPU", "MemoryInfo": SimpleNamespace(total=2**34), "EnforcedPowerLimit": 250_000}, {"Name": "Other"}
    )
    first, second = Driver(library).gpus()
    assert (first.index, first.name, first.memory_bytes, first.driver, first.power_limit_w) == (
        0,
        "Test GPU",
        2**34,
        "570.1",
        250.0,
    )
    assert (second.name, second.memory_bytes, second.power_limit_w) == ("Other", None, None)


GPUS = (
    {"UUID": "GPU-aa11", "ComputeRunningProcesses": [process(7), process(8, None)]},
    {"UUID": b"GPU-bb22", "ComputeRunningProcesses": [process(9)]},
    {"UUID": "GPU-bb33"},
)
ALL = Chosen((0, 1, 2), "all 3 GPUs, whoever used them")


@pytest.mark.parametrize(
    ("pids", "visible", "chosen"),
    [
        ({1, 7}, "2", Chosen((0,), "GPU 0")),
        ({7, 9}, None, Chosen((0, 1), "GPUs 0, 1")),
        ({1}, None, ALL),
        ({1}, "2,0", Chosen((2, 0), "GPUs 2, 0 by CUDA_VISIBLE_DEVICES, whoever used them")),
        ({1}, "GPU-bb2", Chosen((1,), "GPU 1 by CUDA_VISIBLE_DEVICES, whoever used them")),
        ({1}, "1,9,0", Chosen((1,), "GPU 1 by CUDA_VISIBLE_DEVICES, whoever used them")),
        ({1}, "GPU-bb", ALL),
        ({1}, "MIG-1", ALL),
    ],
)
def test_the_gpus_of_a_tree(pids: set[int], visible: str | None, chosen: Chosen) -> None:
    assert Driver(NvmlStandin(*GPUS)).used_by(pids, visible) == chosen


def test_memory_by_process() -> None:
    driver = Driver(NvmlStandin(*GPUS))
    assert [driver.memory_by_process(gpu) for gpu in range(3)] == [{7: 5, 8: None}, {9: 5}, {}]
