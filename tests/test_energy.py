"""Energy with exact counters: recorded folders of the kernel's, and a stand-in for the driver."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvml_standin import Error, NvmlStandin

from monitor.energy import Energy, NvmlMeter, RaplMeter, local_meter, rapl_domains
from monitor.nvml import Chosen, Driver

ONE = Chosen((0,), "GPU 0")
BOTH = Chosen((0, 1), "GPUs 0, 1")


def domain(powercap: Path, folder: str, name: str, uj: int, most: int | None = 1_000_000_000) -> Path:
    made = powercap / folder
    made.mkdir(parents=True, exist_ok=True)
    (made / "name").write_text(name + "\n")
    (made / "energy_uj").write_text(f"{uj}\n")
    if most is not None:
        (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


def laptop(powercap: Path) -> dict[str, Path]:
    return {
        "package": domain(powercap, "intel-rapl:0", "package-0", 5_000_000),
        "core": domain(powercap, "intel-rapl:0:0", "core", 3_000_000),
        "dram": domain(powercap, "intel-rapl:0:2", "dram", 1_000_000),
        "psys": domain(powercap, "intel-rapl:1", "psys", 9_000_000),
        "twin": domain(powercap, "intel-rapl-mmio:0", "package-0", 5_000_000),
    }


def put(folder: Path, uj: int) -> None:
    (folder / "energy_uj").write_text(f"{uj}\n")


def test_packages_and_their_memory_are_summed_and_nothing_twice(tmp_path: Path) -> None:
    zones = laptop(tmp_path)
    meter = local_meter("cpu", {1}, 10.0, tmp_path)
    assert meter
    for name, uj in (
        ("package", 35_000_000),
        ("core", 33_000_000),
        ("dram", 3_500_000),
        ("psys", 99_000_000),
        ("twin", 35_000_000),
    ):
        put(zones[name], uj)
    assert meter.energy(12.0) == Energy(32.5, "rapl package-0 + dram, whole machine")


def test_amd_and_machines_of_two_packages(tmp_path: Path) -> None:
    first, second = domain(tmp_path, "intel-rapl:0", "package-0", 0), domain(tmp_path, "intel-rapl:1", "package-1", 10)
    meter = RaplMeter(rapl_domains(tmp_path), 0.0)
    put(first, 1_000_000)
    put(second, 2_000_010)
    assert meter.energy(1.0) == Energy(3.0, "rapl package-0 + package-1, whole machine")


def test_what_cannot_be_read_is_unknown_and_never_zero(tmp_path: Path) -> None:
    assert local_meter("cpu", {1}, 0.0, tmp_path) is None
    zones = laptop(tmp_path)
    still = local_meter("cpu", {1}, 0.0, tmp_path)
    assert still
    assert still.energy(5.0) is None  # a hypervisor's counter that stands still
    meter = local_meter("cpu", {1}, 0.0, tmp_path)
    assert meter
    put(zones["package"], 6_000_000)
    assert meter.energy(0.05) is None  # shorter than the counter's steps allow
    (zones["dram"] / "energy_uj").unlink()
    meter.sample(1.0)
    put(zones["dram"], 8_000_000)
    assert meter.energy(2.0) is None
    (zones["package"] / "energy_uj").unlink()
    (zones["package"] / "energy_uj").mkdir()  # there, and reading it fails, as without the permission
    assert len(rapl_domains(tmp_path)) == 2
    assert local_meter("cpu", {1}, 0.0, tmp_path) is None


def test_a_counter_without_a_range_may_not_wrap(tmp_path: Path) -> None:
    zone = domain(tmp_path, "intel-rapl:0", "package-0", 50, most=None)
    meter = RaplMeter(rapl_domains(tmp_path), 0.0)
    put(zone, 20)
    assert meter.energy(1.0) is None


@given(st.lists(st.integers(0, 999), min_size=1, max_size=20), st.integers(0, 999))
def test_counters_that_wrap_around_lose_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int) -> None:
    folder = tmp_path_factory.mktemp("powercap")
    zone = domain(folder, "intel-rapl:0", "package-0", start, most=1000)
    meter = RaplMeter(rapl_domains(folder), 0.0)
    total = start
    for number, step in enumerate(steps):
        total += step
        put(zone, total % 1000)
        meter.sample(float(number))
    found = meter.energy(100.0)
    assert (found.joules if found else 0) == pytest.approx(sum(steps) / 1e6)


def meter_of(*gpus: dict[str, object], chosen: Chosen = ONE) -> tuple[NvmlStandin, NvmlMeter]:
    library = NvmlStandin(*gpus)
    return library, NvmlMeter(Driver(library), chosen, 0.0)


def test_the_drivers_counter_of_all_gpus_that_worked() -> None:
    library, meter = meter_of(
        {"TotalEnergyConsumption": [1_000, 251_000]}, {"TotalEnergyConsumption": [7_000, 57_000]}, chosen=BOTH
    )
    meter.sample(1.0)
    assert meter.energy(2.0) == Energy(300.0, "nvml counter, GPUs 0, 1")
    assert {question for question, _ in library.asked} == {"TotalEnergyConsumption"}


def test_too_short_for_the_counter() -> None:
    assert meter_of({"TotalEnergyConsumption": [1_000, 251_000]})[1].energy(1.9) is None


@pytest.mark.parametrize("later", [[900], [Error(999)], [1_000]])
def test_a_counter_that_began_anew_fell_silent_or_stood_still_tells_nothing(later: list[object]) -> None:
    assert meter_of({"TotalEnergyConsumption": [1_000, *later]})[1].energy(10.0) is None


def test_power_is_summed_up_where_there_is_no_counter() -> None:
    """100 W for 1 s, then rising to 200 W over the next."""
    library, meter = meter_of({"PowerUsage": [100_000, 100_000, 100_000, 150_000, 200_000]})
    for now in (0.5, 1.0, 1.5):
        meter.sample(now)
    assert meter.energy(2.0) == Energy(100 + 150, "nvml power, GPU 0")
    assert library.asked.count(("TotalEnergyConsumption", 0)) == 1


def test_too_few_samples_of_power_or_of_too_short_a_part() -> None:
    _, few = meter_of({"PowerUsage": 100_000})
    few.sample(1.0)
    assert few.energy(2.0) is None
    _, cut = meter_of({"PowerUsage": [100_000] * 5 + [Error(999)] * 5})
    for now in range(1, 5):
        cut.sample(now / 2)
    assert cut.energy(4.0) is None


def test_a_gpu_that_tells_neither_makes_all_of_them_unknown() -> None:
    _, meter = meter_of({"TotalEnergyConsumption": [0, 10**6], "PowerUsage": 100_000}, {}, chosen=BOTH)
    for now in range(1, 9):
        meter.sample(now / 2)
    assert meter.energy(5.0) is None


@pytest.mark.parametrize("device", [None, "mps", "remote"])
def test_devices_that_nothing_meters(device: str | None, tmp_path: Path) -> None:
    laptop(tmp_path)
    assert local_meter(device, {1}, 0.0, tmp_path) is None
