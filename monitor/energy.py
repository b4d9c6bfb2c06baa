"""Energy that a device takes from one moment on: counters of the driver or the processor, else power summed up over time.

What nothing tells is unknown, never zero. When to begin, to look and to end is left to `monitor.sampler`.
"""

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from monitor import nvml

POWERCAP = Path("/sys/class/powercap")
SHORTEST_RAPL_S = 0.1
"""The counter moves about every millisecond: a shorter time would be off by more than 1 %."""
SHORTEST_NVML_S = 2.0
"""The counter moves about every 100 ms, and the power is a mean over about a second."""
FEWEST_SAMPLES = 5
COVERED = 0.9
"""The least share of the time that samples of power must span."""


@dataclass(frozen=True)
class Energy:
    joules: float
    method: str
    """Such as `rapl package-0 + dram, whole machine` or `nvml counter, GPU 0`."""


class Meter(Protocol):
    """Counts from when it was made; times are seconds on any one clock."""

    def sample(self, now: float) -> None:
        """Look: to be called at least twice a second."""

    def energy(self, now: float) -> Energy | None:
        """Taken until now; `None` where the source fell silent, or the time was too short for it."""


def local_meter(device: str | None, pids: Collection[int], now: float, powercap: Path = POWERCAP) -> Meter | None:
    """A meter of what these processes' device takes on this machine; `None` where nothing tells."""
    if device == "cpu":
        domains = rapl_domains(powercap)
        return RaplMeter(domains, now) if domains and all(read_uj(one) is not None for one in domains) else None
    driver, chosen = nvml.gpus_of(pids) if device == "cuda" else (None, None)
    return NvmlMeter(driver, chosen, now) if driver and chosen else None


# ---- CPU: Running Average Power Limit, of Intel and AMD


def rapl_domains(powercap: Path = POWERCAP) -> tuple[Path, ...]:
    """Folders of the counters of the packages and their memory; cores and graphics are parts of a package."""
    found = sorted(folder for folder in powercap.glob("intel-rapl:*") if (folder / "energy_uj").exists())
    return tuple(folder for folder in found if _name(folder) == "dram" or _name(folder).startswith("package"))


def read_uj(domain: Path) -> int | None:
    """A counter in microjoules; `None` where it may not be read."""
    with contextlib.suppress(OSError, ValueError):
        return int((domain / "energy_uj").read_text())
    return None


class RaplMeter:
    """Sums the counters' steps, so that each may wrap around once between two looks."""

    def __init__(self, domains: Sequence[Path], now: float) -> None:
        self._began = now
        self._last = {domain: read_uj(domain) for domain in domains}
        self._ranges = {domain: _range_uj(domain) for domain in domains}
        self._total_uj: int | None = 0
        names = dict.fromkeys(_name(domain) for domain in domains)
        self._method = f"rapl {' + '.join(names)}, whole machine"

    def sample(self, now: float) -> None:
        for domain, last in self._last.items():
            uj, span = read_uj(domain), self._ranges[domain]
            if self._total_uj is None or uj is None or last is None or (uj < last and span is None):
                self._total_uj = None
                return
            self._total_uj += uj - last if uj >= last else uj - last + (span or 0)
            self._last[domain] = uj

    def energy(self, now: float) -> Energy | None:
        self.sample(now)
        if not self._total_uj or now - self._began < SHORTEST_RAPL_S:
            return None
        return Energy(self._total_uj / 1e6, self._method)


def _name(domain: Path) -> str:
    with contextlib.suppress(OSError):
        return (domain / "name").read_text().strip()
    return ""


def _range_uj(domain: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((domain / "max_energy_range_uj").read_text())
    return None


# ---- GPU


class NvmlMeter:
    """The driver's counter of each GPU, else its power, by the trapezoid rule."""

    def __init__(self, driver: nvml.Driver, chosen: nvml.Chosen, now: float) -> None:
        self._driver, self._chosen, self._began = driver, chosen, now
        self._counters = self._ask("TotalEnergyConsumption")
        self._power_w: list[tuple[float, float]] = []
        self.sample(now)

    def sample(self, now: float) -> None:
        if self._counters is None and (milliwatts := self._ask("PowerUsage")) is not None:
            self._power_w.append((now, sum(milliwatts) / 1000))

    def energy(self, now: float) -> Energy | None:
        self.sample(now)
        seconds = now - self._began
        if seconds < SHORTEST_NVML_S:
            return None
        method, joules = ("counter", self._counted()) if self._counters is not None else ("power", self._summed(seconds))
        return Energy(joules, f"nvml {method}, {self._chosen.how}") if joules else None

    def _counted(self) -> float | None:
        """From millijoules; `None` where a counter began anew."""
        now = self._ask("TotalEnergyConsumption")
        if now is None or self._counters is None:
            return None
        steps = [after - before for before, after in zip(self._counters, now, strict=True)]
        return None if min(steps) < 0 else sum(steps) / 1000

    def _summed(self, seconds: float) -> float | None:
        power = self._power_w
        if len(power) < FEWEST_SAMPLES or power[-1][0] - power[0][0] < COVERED * seconds:
            return None
        return sum((after - before) * (low + high) / 2 for (before, low), (after, high) in pairwise(power))

    def _ask(self, question: str) -> list[int] | None:
        """One answer from each GPU, or none at all."""
        found = [self._driver.ask(question, gpu) for gpu in self._chosen.indices]
        return found if found and None not in found else None
