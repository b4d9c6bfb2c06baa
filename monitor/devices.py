"""What this machine has: CPU, memory, container limits, GPUs. A source that is missing gives `None`, never zero."""

import contextlib
import os
import platform
from functools import cache
from math import ceil
from pathlib import Path

import psutil

from monitor import nvml

CGROUP = Path("/sys/fs/cgroup")


def cpu_model(proc: Path = Path("/proc")) -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in (proc / "cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    if platform.system() == "Darwin":
        import subprocess

        with contextlib.suppress(OSError, subprocess.SubprocessError):
            found = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, timeout=5)
            if found.stdout.strip():
                return found.stdout.strip()
    return platform.processor() or platform.machine()


def usable_cpus() -> int:
    """Logical CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1


def compute_threads() -> int:
    """Threads that a CPU engine should use: physical cores, no more than the process may run on or its quota pays for."""
    physical = psutil.cpu_count(logical=False) or usable_cpus()
    limit = cpu_limit()
    return max(1, min(physical, usable_cpus(), ceil(limit) if limit else physical))


def cpu_limit(cgroup: Path = CGROUP) -> float | None:
    """CPUs that the container's quota allows; `None` without one."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def cpu_throttled_periods(cgroup: Path = CGROUP) -> int:
    """Scheduler periods so far in which the container's quota stopped it; 0 without a quota."""
    with contextlib.suppress(OSError):
        for line in (cgroup / "cpu.stat").read_text().splitlines():
            if line.startswith("nr_throttled "):
                return int(line.split()[1])
    return 0


def memory_limit_bytes(cgroup: Path = CGROUP) -> int | None:
    """The container's memory limit; `None` without one."""
    with contextlib.suppress(OSError, ValueError):
        return int((cgroup / "memory.max").read_text())
    return None


def free_memory_bytes(cgroup: Path = CGROUP) -> int:
    """What may still be taken before the machine, or the container, runs out: page cache counts as free."""
    free = int(psutil.virtual_memory().available)
    limit = memory_limit_bytes(cgroup)
    if limit is not None:
        with contextlib.suppress(OSError, ValueError):
            stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
            used = (
                int((cgroup / "memory.current").read_text()) - int(stat.get("inactive_file", 0)) - int(stat.get("active_file", 0))
            )
            free = min(free, limit - used)
    return free


def memory_floor_bytes() -> int:
    """Free memory below which a worker is ended: 4 % of the machine's, between 256 MiB and 1 GiB."""
    total = memory_limit_bytes() or int(psutil.virtual_memory().total)
    return max(2**28, min(2**30, total // 25))


def oom_kills(proc: Path = Path("/proc"), cgroup: Path = CGROUP) -> int | None:
    """How many processes the kernel has killed for memory so far; `None` where it does not tell.

    Of our container, where it has a count of its own: the machine's holds the kills in all others too.
    """
    for path in (cgroup / "memory.events", proc / "vmstat"):
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return None


def governor(sys_cpu: Path = Path("/sys/devices/system/cpu")) -> str | None:
    """The CPU frequency governor; `None` where the machine has none to set, as in most virtual machines."""
    with contextlib.suppress(OSError):
        return (sys_cpu / "cpu0/cpufreq/scaling_governor").read_text().strip()
    return None


@cache
def gpus() -> tuple[nvml.Gpu, ...]:
    """NVIDIA GPUs by the driver; empty without a driver."""
    driver = nvml.driver()
    return driver.gpus() if driver else ()
