"""What else happened on the machine while a case ran, and what a reader must know of its weights: the warnings of a row."""

from collections.abc import Callable

import psutil

from bench.quantizations import FLOATS
from monitor.devices import cpu_limit, governor
from monitor.sampler import Usage
from monitor.thermal import Conditions
from results.cases import Case, PlannedCase
from results.records import RowWarning

CONTENTION_SHARE, CONTENTION_CPUS = 0.05, 0.25
"""Others' CPU time that is worth a warning: of the whole machine, or in CPUs where that is less."""
DIRTY = 0.03
"""More memory at the start of a case than right after the load, as a share, that is worth a warning."""
CPU_SLOWED, GPU_SLOWED = 0.8, 0.9
"""Shares of the highest clock of a case below which its median (of CPUs) or its lowest (of GPUs) is worth a warning."""


def surroundings(
    planned: PlannedCase, usage: Usage, loaded_rss: int | None, governor: Callable[[], str | None] = governor,
    cpu_limit: Callable[[], float | None] = cpu_limit,
) -> list[RowWarning]:  # fmt: skip
    """Warnings about what else happened on the machine while a case ran, and about its weights."""
    case = planned.case
    found = []
    cpus = usage.others_cpu_share * (psutil.cpu_count() or 1)
    if usage.others_cpu_share > CONTENTION_SHARE or cpus > CONTENTION_CPUS:
        taken = {"share": round(usage.others_cpu_share, 4), "cpus": round(cpus, 2)}
        found.append(RowWarning(kind="cpu_contention", facts={**taken}))
    if usage.throttled_periods:
        found.append(RowWarning(kind="cpu_throttled", facts={"periods": usage.throttled_periods}))
    if case.threads and (limit := cpu_limit()) and limit < case.threads:
        found.append(RowWarning(kind="cpu_quota", facts={"limit": limit, "threads": case.threads}))
    if usage.foreign_device_processes and case.device != "cpu":
        found.append(RowWarning(kind="foreign_device_processes", facts={"processes": usage.foreign_device_processes}))
    if (setting := governor()) not in (None, "performance"):
        found.append(RowWarning(kind="governor", facts={"governor": setting}))
    found += _slowed(usage.conditions, case)
    if case.target:
        found.append(RowWarning(kind="remote_session"))
    elif loaded_rss and usage.start_rss_bytes > loaded_rss * (1 + DIRTY):
        found.append(RowWarning(kind="dirty_start", facts={"excess": round(usage.start_rss_bytes / loaded_rss - 1, 4)}))
    found += _of_weights(case)
    if case.purpose == "quality" and planned.base_model:
        found.append(RowWarning(kind="base_model"))
    return found


def _slowed(seen: Conditions, case: Case) -> list[RowWarning]:
    found = []
    if seen.throttle_reasons:
        facts = {"share": round(seen.throttled_share or 0.0, 4), "reasons": ", ".join(seen.throttle_reasons)}
        found.append(RowWarning(kind="gpu_throttled", facts={**facts}))
    if (gpu := seen.gpu_clock) and gpu.lowest < GPU_SLOWED * gpu.highest:
        found.append(
            RowWarning(kind="gpu_clock", facts={"drop": round(1 - gpu.lowest / gpu.highest, 4), "highest_hz": gpu.highest})
        )
    if (cpu := seen.cpu_clock) and case.device == "cpu" and cpu.median < CPU_SLOWED * cpu.highest:
        found.append(
            RowWarning(kind="cpu_clock", facts={"drop": round(1 - cpu.median / cpu.highest, 4), "highest_hz": cpu.highest})
        )
    if seen.cpu_heat_events:
        found.append(RowWarning(kind="cpu_heat", facts={"events": seen.cpu_heat_events}))
    if seen.on_battery:
        found.append(RowWarning(kind="on_battery"))
    return found


def _of_weights(case: Case) -> list[RowWarning]:
    found = []
    if case.source_precision not in (None, case.quantization):
        source = {"source": case.source_precision}
        if case.quantization in FLOATS:
            found.append(RowWarning(kind="expanded_weights", facts=source | {"quantization": case.quantization}))
        else:
            found.append(RowWarning(kind="requantized_weights", facts=source))
    if case.has_random_weights:
        found.append(RowWarning(kind="random_weights"))
    return found
