"""What else happened on the machine while a case ran, and what a reader must know of its weights: the warnings of a row."""

import psutil

from monitor.devices import governor
from monitor.sampler import Usage
from results.cases import PlannedCase
from results.records import RowWarning

CONTENTION_SHARE, CONTENTION_CPUS = 0.05, 0.25
"""Others' CPU time that is worth a warning: of the whole machine, or in CPUs where that is less."""
DIRTY = 0.03
"""More memory at the start of a case than right after the load, as a share, that is worth a warning."""


def surroundings(planned: PlannedCase, usage: Usage, loaded_rss: int | None) -> list[RowWarning]:
    """Warnings about what else happened on the machine while a case ran."""
    found = []
    cpus = usage.others_cpu_share * (psutil.cpu_count() or 1)
    if usage.others_cpu_share > CONTENTION_SHARE or cpus > CONTENTION_CPUS:
        taken = {"share": round(usage.others_cpu_share, 4), "cpus": round(cpus, 2)}
        found.append(RowWarning(kind="cpu_contention", facts={**taken}))
    if usage.throttled_periods:
        found.append(RowWarning(kind="cpu_throttled", facts={"periods": usage.throttled_periods}))
    if usage.foreign_device_processes and planned.case.device != "cpu":
        found.append(RowWarning(kind="foreign_device_processes", facts={"processes": usage.foreign_device_processes}))
    if (setting := governor()) not in (None, "performance"):
        found.append(RowWarning(kind="governor", facts={"governor": setting}))
    if planned.case.target:
        found.append(RowWarning(kind="remote_session"))
    elif loaded_rss and usage.start_rss_bytes > loaded_rss * (1 + DIRTY):
        found.append(RowWarning(kind="dirty_start", facts={"excess": round(usage.start_rss_bytes / loaded_rss - 1, 4)}))
    if planned.case.source_precision not in (None, planned.case.quantization):
        facts = {"source": planned.case.source_precision, "quantization": planned.case.quantization}
        found.append(RowWarning(kind="expanded_weights", facts=facts))
    if planned.case.purpose == "quality" and planned.base_model:
        found.append(RowWarning(kind="base_model"))
    return found
