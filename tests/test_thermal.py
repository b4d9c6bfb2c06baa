"""Throttling, clocks, heat and batteries, from recorded folders and a stand-in for the driver."""

from pathlib import Path

import pytest
from nvml_standin import NvmlStandin

from monitor.nvml import Driver
from monitor.thermal import Clocks, Conditions, Track, Watch, heat_counters, local_watch, on_battery

IDLE, CAP, HEAT = 0x1, 0x4, 0x40


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def watched(tmp_path: Path, *gpus: dict[str, object], samples: int, cpus: range = range(0)) -> Conditions:
    watch = Watch(Driver(NvmlStandin(*gpus)), range(len(gpus)), cpus, tmp_path, tmp_path)
    for now in range(samples):
        watch.sample(float(now))
    return watch.conditions()


def test_a_gpus_throttling_clock_and_temperature(tmp_path: Path) -> None:
    seen = watched(
        tmp_path,
        {
            "CurrentClocksThrottleReasons": [0, CAP, CAP | HEAT | 0x8, IDLE, 0x2],
            "ClockInfo": [1900, 1800, 1200, 210, 1900],
            "Temperature": [50, 70, 90, 60, 55],
        },
        samples=5,
    )
    assert seen.throttled_share == 0.5  # of the four samples in which it worked
    assert seen.throttle_reasons == ("power cap", "hardware slowdown", "heat, by hardware")
    assert seen.gpu_clock == Clocks(1.2e9, 1.85e9, 1.9e9)
    assert seen.tracks == (
        Track("gpu0_temperature", "°C", (0.0, 1.0, 2.0, 3.0, 4.0), (50.0, 70.0, 90.0, 60.0, 55.0)),
        Track("gpu0_sm_clock_hz", "Hz", (0.0, 1.0, 2.0, 3.0, 4.0), (1.9e9, 1.8e9, 1.2e9, 2.1e8, 1.9e9)),
    )


def test_one_of_two_gpus_is_enough_to_slow_both(tmp_path: Path) -> None:
    seen = watched(
        tmp_path, {"CurrentClocksThrottleReasons": [0, 0]}, {"CurrentClocksThrottleReasons": [0x80, 0]}, samples=2
    )  # fmt: skip
    assert (seen.throttled_share, seen.throttle_reasons) == (0.5, ("power brake",))


def test_a_gpu_that_never_worked_or_tells_nothing_gives_no_warning(tmp_path: Path) -> None:
    idle = watched(tmp_path, {"CurrentClocksThrottleReasons": IDLE | CAP, "ClockInfo": 210}, samples=5)
    assert (idle.throttled_share, idle.throttle_reasons, idle.gpu_clock) == (None, (), None)
    assert watched(tmp_path, {}, samples=5) == Conditions()


def test_the_clock_of_the_fastest_cpu_counts_as_idle_ones_slow_down(tmp_path: Path) -> None:
    watch = Watch(None, (), range(3), tmp_path, tmp_path)
    assert watch.conditions() == Conditions()
    for cpu in range(2):
        write(tmp_path / f"cpu{cpu}/cpufreq/scaling_cur_freq", 800_000)
    watch = Watch(None, (), range(3), tmp_path, tmp_path)
    for now, fastest in enumerate((4_000_000, 3_000_000, 2_000_000, 2_900_000, 800_000)):
        write(tmp_path / "cpu1/cpufreq/scaling_cur_freq", fastest)
        watch.sample(float(now))
    seen = watch.conditions()
    assert seen.cpu_clock == Clocks(8e8, 2.9e9, 4e9)
    assert seen.tracks[0].values == (4e9, 3e9, 2e9, 2.9e9, 8e8)


def test_two_samples_are_too_few_for_a_clock(tmp_path: Path) -> None:
    write(tmp_path / "cpu0/cpufreq/scaling_cur_freq", 3_000_000)
    assert watched(tmp_path, samples=2, cpus=range(1)).cpu_clock is None
    assert watched(tmp_path, samples=3, cpus=range(1)).cpu_clock == Clocks(3e9, 3e9, 3e9)


def test_heat_is_counted_from_the_beginning_and_once_per_package(tmp_path: Path) -> None:
    for cpu in range(2):
        write(tmp_path / f"cpu{cpu}/thermal_throttle/core_throttle_count", 5 + cpu)
        write(tmp_path / f"cpu{cpu}/thermal_throttle/package_throttle_count", 100)
    write(tmp_path / "cpuidle/thermal_throttle/core_throttle_count", 9)
    assert len(heat_counters(tmp_path)) == 4
    watch = Watch(None, (), (), tmp_path, tmp_path)
    assert watch.conditions().cpu_heat_events == 0
    for cpu in range(2):
        write(tmp_path / f"cpu{cpu}/thermal_throttle/package_throttle_count", 103)
    write(tmp_path / "cpu1/thermal_throttle/core_throttle_count", 7)
    assert watch.conditions().cpu_heat_events == 3


def supply(folder: Path, kind: str, **files: object) -> None:
    write(folder / "type", kind)
    for name, text in files.items():
        write(folder / name, text)


def test_power_sources(tmp_path: Path) -> None:
    assert on_battery(tmp_path / "none") is None
    supply(tmp_path / "mouse", "Battery", scope="Device")
    supply(tmp_path / "AC", "Mains", online=0)
    assert on_battery(tmp_path) is None  # the mouse's battery does not run the machine
    supply(tmp_path / "BAT0", "Battery")
    assert on_battery(tmp_path) is True
    supply(tmp_path / "ucsi", "USB", online=1)
    assert on_battery(tmp_path) is False
    supply(tmp_path / "ucsi", "USB", online=0)
    supply(tmp_path / "AC", "Mains", online=1)
    assert on_battery(tmp_path) is False
    supply(tmp_path / "alone" / "BAT0", "Battery")
    assert on_battery(tmp_path / "alone") is None  # without a charger to ask nothing is known


def test_a_long_track_is_thinned(tmp_path: Path) -> None:
    (track,) = watched(tmp_path, {"Temperature": 40}, samples=2500).tracks
    assert track.times == tuple(float(now) for now in range(0, 2500, 3))
    assert len(track.values) == len(track.times)


@pytest.mark.parametrize("device", [None, "cpu", "cuda", "mps"])
def test_this_machine_can_be_watched(device: str | None) -> None:
    watch = local_watch(device, {1})
    watch.sample(0.0)
    assert watch.conditions().throttled_share is None or device == "cuda"
