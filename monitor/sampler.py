"""Watches a process tree from outside while it works: memory over time, peaks, CPU time of others, and memory about to end."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from monitor import processes
from monitor.devices import cpu_throttled_periods, free_memory_bytes
from monitor.energy import Energy, Meter, local_meter
from monitor.nvml import processes_by_gpu
from monitor.thermal import Conditions, Track, Watch, local_watch
from results.records import Series

PERIOD_S = 0.05
TREE_EVERY = 20
"""The tree is listed anew every so many samples: listing costs more than reading."""
LIMITED_TREE_EVERY = 4
"""The same where the tree's memory has a limit: a child that grows must be seen soon."""
METER_EVERY = 8
"""Energy is looked at every so many samples: more than twice a second."""
MAX_POINTS = 1000


@dataclass(frozen=True)
class Usage:
    """What a tree used between `begin` and `end`."""

    start_rss_bytes: int
    peak_rss_bytes: int
    peak_pss_bytes: int | None
    others_cpu_share: float
    """CPU time that anything else took, as a share of all that the machine has."""
    beside_peak_rss_bytes: int | None
    """Of the processes beside the part that is watched apart; `None` where no part is."""
    peak_device_bytes: int | None
    foreign_device_processes: int
    throttled_periods: int
    """Scheduler periods in which a CPU quota stopped us."""
    energy_j: float | None
    """Of the device between `mark` and `end`; `None` where nothing tells, or the time was too short for its counter."""
    energy_method: str | None
    """Where it comes from; see `monitor.energy.Energy`."""
    times: tuple[float, ...]
    """On the sampler's clock."""
    rss_bytes: tuple[float, ...]
    conditions: Conditions
    """Between `mark` and `end`."""

    def series(self, origin: float) -> tuple[Series, ...]:
        """Memory, clocks and temperatures over time.

        Args:
            origin: the sampler's clock at the measurement's zero.
        """
        memory = Track("rss_bytes", "B", self.times, self.rss_bytes)
        return tuple(
            Series(name=one.name, unit=one.unit, times_s=tuple(time - origin for time in one.times), values=one.values)
            for one in (memory, *self.conditions.tracks)
        )


class Sampler:
    """Samples from its own thread, about 20 times a second; `begin` and `end` frame one case.

    Args:
        starved: called once, from the sampler's thread, when free memory falls below `floor_bytes`.
        free_bytes: what the tree may still take before the machine or its container runs dry.
        exceeded: called once, from the sampler's thread, with the tree's resident bytes and `limit_bytes`, when they are above it.
    """

    def __init__(
        self, pid: int, starved: Callable[[int], None], floor_bytes: int, clock: Callable[[], float] = time.perf_counter,
        free_bytes: Callable[[], int] = free_memory_bytes, proc: Path = Path("/proc"),
        on_device: Callable[[], Sequence[dict[int, int | None]]] = processes_by_gpu,
        meter: Callable[[str | None, Collection[int], float], Meter | None] = local_meter,
        watch: Callable[[str | None, Collection[int]], Watch] = local_watch,
        exceeded: Callable[[int, int], None] = lambda held, limit: None,
    ) -> None:  # fmt: skip
        self.pid, self._clock, self._proc = pid, clock, proc
        self._on_device, self._new_meter, self._new_watch = on_device, meter, watch
        self._meter: Meter | None = None
        self._watch: Watch | None = None
        self._starved, self._floor, self._free = starved, floor_bytes, free_bytes
        self._exceeded = exceeded
        self.limit_bytes: int | None = None
        """Of the whole tree's resident memory; may be set at any time."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pids, self._beside = [pid], list[int]()
        self._apart: int | None = None
        self.seen = {pid}
        self._points: list[tuple[float, float]] = []
        self._beside_peak = 0
        self._device_peak: int | None = None
        self._foreign = 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def watch_apart(self, pid: int) -> None:
        """From now on the memory of this part of the tree is what counts, such as that of a server; the rest is told beside it."""
        self._apart = pid

    def highest_rss_bytes(self) -> int | None:
        """The kernel's high-water mark of the process since it started, or since `begin`; `None` where the kernel keeps none."""
        return processes.peak_rss_bytes(self._root, self._proc)

    def begin(self) -> None:
        """Start a case: peaks are reset, the case's own baseline is taken."""
        self._list()
        processes.reset_peak_rss(self._root, self._proc)
        with self._lock:
            self._points, self._beside_peak, self._device_peak, self._foreign = [], 0, None, 0
            self._meter = self._watch = None
        self._sample_device()
        self._pss_before = processes.pss_bytes(self._pids, self._proc)
        self._start = (
            self._clock(),
            processes.machine_busy_seconds(),
            self._own_seconds(),
            cpu_throttled_periods(),
        )
        self._sample()

    def mark(self, device: str | None) -> None:
        """What is counted begins now: warm-ups are over.

        Args:
            device: what computes, of `Case.device`; `None` where it is not on this machine.
        """
        pids = set(self.seen)
        watch = self._new_watch(device, pids)
        meter = self._new_meter(device, pids, self._clock())
        with self._lock:
            self._meter, self._watch = meter, watch

    def end(self) -> Usage:
        """End a case. PSS is read here, outside the timed window."""
        energy, conditions = self._since_mark()
        self._list()
        self._sample()
        self._sample_device()
        began, busy, own, throttled = self._start
        others = processes.machine_busy_seconds() - busy - (self._own_seconds() - own)
        with self._lock:
            points = list(self._points)
        mark = processes.peak_rss_bytes(self._root, self._proc) if len(self._pids) == 1 else None
        pss = max((one for one in (self._pss_before, processes.pss_bytes(self._pids, self._proc)) if one), default=None)
        kept = thin(points)
        return Usage(
            start_rss_bytes=int(points[0][1]),
            peak_rss_bytes=max(int(max(value for _, value in points)), mark or 0),
            peak_pss_bytes=pss,
            others_cpu_share=min(1.0, max(0.0, others) / max(self._clock() - began, 1e-9) / _cpus()),
            beside_peak_rss_bytes=None if self._apart is None else self._beside_peak,
            peak_device_bytes=self._device_peak,
            foreign_device_processes=self._foreign,
            throttled_periods=cpu_throttled_periods() - throttled,
            energy_j=energy.joules if energy else None,
            energy_method=energy.method if energy else None,
            times=tuple(time for time, _ in kept),
            rss_bytes=tuple(value for _, value in kept),
            conditions=conditions,
        )

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PERIOD_S):
            number += 1
            limit = self.limit_bytes
            if number % (TREE_EVERY if limit is None else LIMITED_TREE_EVERY) == 0:
                self._list()
            if number % TREE_EVERY == 0:
                self._sample_device()
            self._look(number)
            held = self._sample()
            if limit is not None and held > limit:
                self._exceeded(held, limit)
                return
            if (free := self._free()) < self._floor:
                self._starved(free)
                return

    @property
    def _root(self) -> int:
        return self.pid if self._apart is None else self._apart

    def _own_seconds(self) -> float:
        """CPU time of the whole tree, that of children who came and went included."""
        return processes.cpu_seconds([*self._pids, *self._beside])

    def _look(self, number: int) -> None:
        with self._lock:
            if self._meter and number % METER_EVERY == 0:
                self._meter.sample(self._clock())
            if self._watch and number % TREE_EVERY == 0:
                self._watch.sample(self._clock())

    def _since_mark(self) -> tuple[Energy | None, Conditions]:
        with self._lock:
            energy = self._meter.energy(self._clock()) if self._meter else None
            conditions = self._watch.conditions() if self._watch else Conditions()
            self._meter = self._watch = None
        return energy, conditions

    def _list(self) -> None:
        everyone = processes.tree(self.pid, self._proc)
        self._pids = everyone if self._apart is None else processes.tree(self._apart, self._proc)
        self._beside = [pid for pid in everyone if pid not in self._pids]
        self.seen.update(everyone, self._pids)

    def _sample_device(self) -> None:
        """A tree that is not among the driver's pids (which a container may number otherwise), or of which the driver does not tell
        all, has unknown memory, not none. Others count on the GPUs that the tree is on."""
        gpus = [gpu for gpu in self._on_device() if gpu.keys() & self.seen]
        used = [gpu[pid] for gpu in gpus for pid in gpu.keys() & self.seen]
        known = [one for one in used if one is not None]
        if known and len(known) == len(used):
            self._device_peak = max(sum(known), self._device_peak or 0)
        self._foreign = max(self._foreign, len({pid for gpu in gpus for pid in gpu} - self.seen))

    def _sample(self) -> int:
        """Resident bytes of the whole tree."""
        total = sum(processes.rss_bytes(pid, self._proc) for pid in self._pids)
        beside = sum(processes.rss_bytes(pid, self._proc) for pid in self._beside)
        with self._lock:
            self._points.append((self._clock(), float(total)))
            self._beside_peak = max(self._beside_peak, beside)
        return total + beside


def thin(points: list[tuple[float, float]], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most so many points: the highest of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return points
    size = len(points) / most
    stretches = (points[int(n * size) : int((n + 1) * size)] for n in range(most))
    return [max(stretch, key=lambda point: point[1]) for stretch in stretches]


def _cpus() -> int:
    import psutil

    return psutil.cpu_count() or 1
