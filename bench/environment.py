"""The facts of this machine that must agree before two runs may be compared. Where the code stands is `bench.git`'s."""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

import psutil

from bench.cases import Machine
from bench.engines import engine_class, support
from bench.engines.protocol import Informed, Source
from monitor import devices
from results.format import plain
from results.record import Scalar
from results.records import VARIABLE, Environment

_TUNES = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|VECLIB|ONEDNN|DNNL|ATEN|TORCH|PYTORCH|TORCHINDUCTOR|GGML|CUDA|CUBLAS|MALLOC)_\w+|NVIDIA_TF32_OVERRIDE"
)
"""Variables by which libraries choose threads, instructions, kernels and memory."""
_NO_FACT = re.compile(r"KEY|TOKEN|SECRET|PASS")
_LONGEST = 200


def environment(engines: Iterable[str], asked: Iterable[tuple[str, Source]] = (), further: Iterable[str] = ()) -> Environment:
    """Facts of the machine, and the versions of what these engines need; `results.records.HARD_FACTS` says which are hard.

    Args:
        further: distributions that cases need besides, such as one that quantizes.
        asked: (engine, what it talks to) whose programs and servers tell their own versions.
    """
    gpus = devices.gpus()
    facts: dict[str, Scalar] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "os": _os_name(),
        "kernel": platform.release(),
        "cpu_model": devices.cpu_model(),
        "cpu_count": psutil.cpu_count(),
        "cpu_usable": devices.usable_cpus(),
        "cpu_limit": devices.cpu_limit(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "memory_limit_bytes": devices.memory_limit_bytes(),
        "governor": devices.governor(),
        "gpus": ", ".join(gpu.name for gpu in gpus) or None,
        "gpu_driver": gpus[0].driver if gpus else None,
        "gpu_power_limit_w": gpus[0].power_limit_w if gpus else None,
        "python": platform.python_version(),
        "gemmeter": installed("gemmeter"),
        **tuning(os.environ),
    }
    for package in dict.fromkeys([*(package for engine in engines for package in support(engine).packages), *further]):
        facts[package] = installed(package)
    for engine, source in asked:
        able = engine_class(engine)
        if issubclass(able, Informed):
            prefix = f"{source.server.name} " if source.server else ""
            try:
                told = able.facts(source)
            except Exception as error:  # noqa: BLE001 it may be another package's, and no reason to measure nothing
                told = {f"{engine} facts": f"failed with {type(error).__name__}"}
            facts |= {prefix + name: value for name, value in told.items()}
    return Environment(facts=facts)


def tuning(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that change how numbers are computed, as facts. Left out are paths, which are this machine's own, and secrets."""
    return {
        VARIABLE + name: plain(value)[:_LONGEST]
        for name, value in sorted(variables.items())
        if _TUNES.fullmatch(name) and not _NO_FACT.search(name) and not re.search(r"[/\\]", value)
    }


def installed(package: str) -> str | None:
    """The installed version of a package, found without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def this_machine() -> Machine:
    """What `device: auto` and `threads: auto` mean here, without importing torch."""
    return Machine(device=_device(), threads=devices.compute_threads())


def _device() -> str:
    has_cuda_build = "+cpu" not in (installed("torch") or "+cpu")
    return "cuda" if has_cuda_build and devices.gpus() else "cpu"


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.platform(terse=True)
