"""NVIDIA's driver, asked through NVML: what each GPU is, does and draws. What a GPU does not support is asked of it only once."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

NEVER = (3, 4, 13)
"""Error codes that stay: not supported, no permission, function not found in this version of the driver."""


@dataclass(frozen=True)
class Gpu:
    index: int
    name: str
    memory_bytes: int | None
    driver: str
    power_limit_w: float | None


@dataclass(frozen=True)
class Chosen:
    """The GPUs that a process tree works on."""

    indices: tuple[int, ...]
    how: str
    """They and how they were found, such as `GPU 0` or `all 2 GPUs, whoever used them`."""


class Driver:
    """
    Args:
        library: the module `pynvml`, initialised; tests pass a stand-in.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._refused: set[tuple[str, int]] = set()
        self.count = int(library.nvmlDeviceGetCount())

    def ask(self, question: str, gpu: int, *arguments: int) -> Any:
        """What `nvmlDeviceGet<question>` answers, in its own unit; `None` where it does not."""
        if (question, gpu) in self._refused:
            return None
        try:
            handle = self._library.nvmlDeviceGetHandleByIndex(gpu)
            return getattr(self._library, f"nvmlDeviceGet{question}")(handle, *arguments)
        except self._library.NVMLError as error:
            if error.value in NEVER:
                self._refused.add((question, gpu))
            return None

    def gpus(self) -> tuple[Gpu, ...]:
        version = _text(self._library.nvmlSystemGetDriverVersion())
        found = []
        for index in range(self.count):
            memory, limit_mw = self.ask("MemoryInfo", index), self.ask("EnforcedPowerLimit", index)
            found.append(
                Gpu(
                    index=index,
                    name=_text(self.ask("Name", index) or "unknown"),
                    memory_bytes=None if memory is None else int(memory.total),
                    driver=version,
                    power_limit_w=None if limit_mw is None else limit_mw / 1000,
                )
            )
        return tuple(found)

    def memory_by_process(self, gpu: int) -> dict[int, int | None]:
        """Memory in bytes of each process that computes there, by pid; `None` where the driver does not tell it."""
        return {
            one.pid: None if one.usedGpuMemory is None else int(one.usedGpuMemory)
            for one in self.ask("ComputeRunningProcesses", gpu) or ()
        }

    def used_by(self, pids: Collection[int], visible: str | None = None) -> Chosen:
        """The GPUs on which these processes compute; in a container, where the driver may number processes otherwise, those
        that `visible` names, or all.

        Args:
            visible: the variable CUDA_VISIBLE_DEVICES, `None` where it is not set.
        """
        used = tuple(gpu for gpu in range(self.count) if self.memory_by_process(gpu).keys() & set(pids))
        if used:
            return Chosen(used, _named(used))
        listed = self._listed(visible or "")
        if listed:
            return Chosen(listed, f"{_named(listed)} by CUDA_VISIBLE_DEVICES, whoever used them")
        return Chosen(tuple(range(self.count)), f"all {self.count} GPUs, whoever used them")

    def _listed(self, visible: str) -> tuple[int, ...]:
        """Numbers, or beginnings of UUIDs; like CUDA, up to the first that means nothing."""
        uuids = {index: _text(self.ask("UUID", index) or "") for index in range(self.count)}
        found: list[int] = []
        for entry in visible.split(","):
            name = entry.strip()
            meant = [
                index for index, uuid in uuids.items() if name == str(index) or (name[:4] == "GPU-" and uuid.startswith(name))
            ]
            if len(meant) != 1:
                break
            found += meant
        return tuple(found)


@cache
def driver() -> Driver | None:
    """This machine's driver; `None` without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return Driver(pynvml)
    except pynvml.NVMLError:
        return None


def processes_by_gpu() -> tuple[dict[int, int | None], ...]:
    """`Driver.memory_by_process` of each of this machine's GPUs."""
    found = driver()
    return tuple(found.memory_by_process(gpu) for gpu in range(found.count)) if found else ()


def gpus_of(pids: Collection[int]) -> tuple[Driver, Chosen] | tuple[None, None]:
    """This machine's driver, and the GPUs that these processes use."""
    found = driver()
    return (found, found.used_by(pids, os.environ.get("CUDA_VISIBLE_DEVICES"))) if found else (None, None)


def _named(gpus: tuple[int, ...]) -> str:
    return f"GPU{'s' if len(gpus) > 1 else ''} {', '.join(map(str, gpus))}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
