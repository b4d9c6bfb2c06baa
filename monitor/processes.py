"""A process tree from outside: who belongs to it, its memory and CPU time, how to end all of it, and how to end with us."""

import contextlib
import ctypes
import os
import platform
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

LINUX = platform.system() == "Linux"
MARKER = "GEMMETER_WORKER"
"""Environment variable that a worker's whole tree inherits: found again even after it left the group and the parent."""
_PR_SET_PDEATHSIG = 1


def tree(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """The process and all of its descendants that are alive."""
    found = [pid]
    for one in found:
        found.extend(child for child in _children(one, proc) if child not in found)
    return found


def _children(pid: int, proc: Path) -> list[int]:
    if not LINUX:
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (proc / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):  # this thread ended while we looked
                found += map(int, (task / "children").read_text().split())
    return found


def rss_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """Resident bytes of one process; 0 when it is gone."""
    try:
        return int((proc / str(pid) / "statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        if not LINUX:
            with contextlib.suppress(psutil.Error):
                return int(psutil.Process(pid).memory_info().rss)
        return 0


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def peak_rss_bytes(pid: int, proc: Path = Path("/proc")) -> int | None:
    """The kernel's own high-water mark of one process since `reset_peak_rss`; `None` where the kernel keeps none."""
    with contextlib.suppress(OSError):
        for line in (proc / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def reset_peak_rss(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether the kernel's high-water mark could be set back to the present."""
    try:
        (proc / str(pid) / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def pss_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> int | None:
    """Proportional set size of the processes: shared pages counted once. Slow: read it outside timed windows only."""
    total = None
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total = (total or 0) + int(line.split()[1]) * 1024
    return total


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes so far, and of their children that ended."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def machine_busy_seconds() -> float:
    """CPU time that anything took so far, on all CPUs, time stolen by the hypervisor included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def end_tree(pid: int | None, mark: str, known: Iterable[int] = (), patience_s: float = 5.0) -> None:
    """Kill the process, its descendants, those that were its descendants once, and all that carry its mark.

    Args:
        pid: of a process that its parent has not waited for yet, so that the number is still its own; else `None`.
        mark: the value of `MARKER` in its environment.
        known: pids seen in the tree earlier; they are ended only if they still carry the mark.
    """
    deadline = time.monotonic() + patience_s
    while True:
        alive = _doomed(pid, mark, known)
        if not alive or time.monotonic() > deadline:
            return
        for one in alive:
            with contextlib.suppress(psutil.Error):
                one.kill()
        time.sleep(0.02)  # not psutil's wait, which would take the exit code from whoever started the process


def _doomed(pid: int | None, mark: str, known: Iterable[int]) -> list[psutil.Process]:
    candidates = {*(tree(pid) if pid else ()), *known, *(psutil.pids() if mark else ())} - {os.getpid()}
    found = []
    for candidate in candidates:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(candidate)
            ours = candidate == pid or process.environ().get(MARKER) == mark
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def when_parent_ends(number: signal.Signals) -> Callable[[], None] | None:
    """For `Popen`'s `preexec_fn`: the kernel sends the child this signal when the thread that started it ends, however that happens.

    Returns:
        `None` where the kernel offers nothing of the kind.
    """
    if not LINUX:
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it ended before the arrangement
            os._exit(1)

    return arrange
