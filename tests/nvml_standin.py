"""A stand-in for the module `pynvml`: the same functions, errors and units, answers that a test writes down."""

from types import SimpleNamespace
from typing import Any

import pynvml

NOT_SUPPORTED, NO_PERMISSION, UNKNOWN = 3, 4, 999


class NvmlStandin:
    """GPUs as mappings from a question, such as `PowerUsage`, to an answer, a list of answers in turn, or an error's code.

    What a mapping leaves out is not supported.
    """

    NVMLError = pynvml.NVMLError

    def __init__(self, *gpus: dict[str, Any]) -> None:
        self.gpus = [dict(gpu) for gpu in gpus]
        self.asked: list[tuple[str, int]] = []

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlSystemGetDriverVersion(self) -> bytes:  # noqa: N802
        return b"570.1"

    def __getattr__(self, name: str) -> Any:
        assert hasattr(pynvml, name), f"pynvml has no {name}"
        question = name.removeprefix("nvmlDeviceGet")

        def answer(handle: int, *_: int) -> Any:
            self.asked.append((question, handle))
            found = self.gpus[handle].get(question, Error(NOT_SUPPORTED))
            if isinstance(found, list) and question != "ComputeRunningProcesses":
                found = found.pop(0)
            if isinstance(found, Error):
                raise pynvml.NVMLError(found.code)
            return found

        return answer


class Error:
    def __init__(self, code: int) -> None:
        self.code = code


def process(pid: int, used: int | None = 5) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)
