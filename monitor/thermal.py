"""What held a machine back for a time: throttling for heat or power, clocks that fell, a battery. A missing source tells nothing."""

import contextlib
import os
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path

from monitor import nvml
from monitor.processes import LINUX

SYS_CPU = Path("/sys/devices/system/cpu")
SUPPLIES = Path("/sys/class/power_supply")
IDLE = 0x1
"""Among the reasons for a GPU's clock: nothing runs there, so a low clock means nothing."""
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "heat, by software",
    0x40: "heat, by hardware",
    0x80: "power brake",
}
"""Those that take speed away."""
FEWEST_SAMPLES = 3
"""Without so many, clocks tell nothing."""
MOST_POINTS = 1000
SM, CORE = 1, 0
"""NVML's numbers for the clock of the streaming multiprocessors and for the sensor on the chip."""


@dataclass(frozen=True)
class Track:
    """Telemetry on the clock of whoever sampled it."""

    name: str
    unit: str
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Clocks:
    """In hertz; of busy GPUs, or of the fastest CPU at each moment."""

    lowest: float
    median: float
    highest: float


@dataclass(frozen=True)
class Conditions:
    """Of the time between two moments; `None` where nothing tells."""

    throttled_share: float | None = None
    """Of the samples in which a GPU worked, those in which any of `REASONS` slowed it."""
    throttle_reasons: tuple[str, ...] = ()
    gpu_clock: Clocks | None = None
    cpu_clock: Clocks | None = None
    cpu_heat_events: int | None = None
    """How often a CPU slowed itself down for heat."""
    on_battery: bool | None = None
    tracks: tuple[Track, ...] = ()


class Watch:
    """Counts from when it was made.

    Args:
        gpus: those to look at, by their index; `driver` may be missing without any.
        cpus: those to look at, by their number.
    """

    def __init__(
        self, driver: nvml.Driver | None, gpus: Sequence[int], cpus: Iterable[int], sys_cpu: Path = SYS_CPU,
        supplies: Path = SUPPLIES,
    ) -> None:  # fmt: skip
        self._driver, self._gpus, self._sys_cpu, self._supplies = driver, tuple(gpus), sys_cpu, supplies
        frequencies = [sys_cpu / f"cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus]
        self._frequencies = [path for path in frequencies if path.exists()]
        self._heat_before = heat_counters(sys_cpu)
        self._reasons: list[int] = []
        self._busy_hz: list[float] = []
        self._points: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def sample(self, now: float) -> None:
        """Look: to be called about once a second."""
        hz = [kilohertz * 1000.0 for path in self._frequencies if (kilohertz := _integer(path))]
        self._add("cpu_clock_hz", "Hz", now, max(hz, default=None))
        masks = []
        for gpu in self._gpus if self._driver else ():
            mask, megahertz, celsius = self._look(gpu)
            self._add(f"gpu{gpu}_temperature", "°C", now, celsius)
            self._add(f"gpu{gpu}_sm_clock_hz", "Hz", now, None if megahertz is None else megahertz * 1e6)
            if mask is not None and not mask & IDLE:
                self._busy_hz += [megahertz * 1e6] if megahertz else []
                masks.append(mask)
        if masks:
            self._reasons.append(reduce(or_, masks))

    def conditions(self) -> Conditions:
        """Since the watch was made."""
        slowed = [mask for mask in self._reasons if any(mask & bit for bit in REASONS)]
        return Conditions(
            throttled_share=len(slowed) / len(self._reasons) if self._reasons else None,
            throttle_reasons=tuple(name for bit, name in REASONS.items() if any(mask & bit for mask in slowed)),
            gpu_clock=_clocks(self._busy_hz),
            cpu_clock=_clocks([value for _, value in self._points.get(("cpu_clock_hz", "Hz"), ())]),
            cpu_heat_events=_grown(self._heat_before, heat_counters(self._sys_cpu)),
            on_battery=on_battery(self._supplies),
            tracks=tuple(_track(name, unit, points) for (name, unit), points in self._points.items()),
        )

    def _look(self, gpu: int) -> tuple[int | None, int | None, int | None]:
        """(reasons for the clock, the clock in MHz, degrees Celsius)."""
        if self._driver is None:
            return None, None, None
        ask = self._driver.ask
        return ask("CurrentClocksThrottleReasons", gpu), ask("ClockInfo", gpu, SM), ask("Temperature", gpu, CORE)

    def _add(self, name: str, unit: str, now: float, value: float | None) -> None:
        if value is not None:
            self._points.setdefault((name, unit), []).append((now, float(value)))


def local_watch(device: str | None, pids: Collection[int]) -> Watch:
    """A watch of this machine's CPUs, and of the GPUs that these processes use where `device` is one; `None`: elsewhere."""
    driver, chosen = nvml.gpus_of(pids) if device == "cuda" else (None, None)
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return Watch(driver, chosen.indices if chosen else (), sorted(cpus))


def heat_counters(sys_cpu: Path = SYS_CPU) -> dict[Path, int]:
    """How often each CPU, and its package, was slowed down for heat since the machine started; empty where nothing counts."""
    found = {path: _integer(path) for path in sys_cpu.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")}
    return {path: count for path, count in found.items() if count is not None}


def on_battery(supplies: Path = SUPPLIES) -> bool | None:
    """Whether a machine with a battery has no power from outside; `None` where it has none, or nothing tells."""
    if not LINUX:
        import psutil

        battery = psutil.sensors_battery()
        return None if battery is None or battery.power_plugged is None else not battery.power_plugged
    kinds = {folder: _read(folder / "type") for folder in supplies.glob("*")}
    own = [one for one, kind in kinds.items() if kind == "Battery" and _read(one / "scope") != "Device"]
    chargers = [_integer(one / "online") for one, kind in kinds.items() if kind == "Mains" or kind.startswith("USB")]
    known = [online for online in chargers if online is not None]
    return not any(known) if own and known else None


def _grown(before: dict[Path, int], after: dict[Path, int]) -> int | None:
    """The most that any counter grew: CPUs of one package count the same events."""
    return max((after[path] - count for path, count in before.items() if path in after), default=None)


def _track(name: str, unit: str, points: Sequence[tuple[float, float]]) -> Track:
    kept = points[:: -(-len(points) // MOST_POINTS)]
    return Track(name, unit, tuple(time for time, _ in kept), tuple(value for _, value in kept))


def _clocks(hertz: Sequence[float]) -> Clocks | None:
    return Clocks(min(hertz), statistics.median(hertz), max(hertz)) if len(hertz) >= FEWEST_SAMPLES else None


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return ""


def _integer(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None
