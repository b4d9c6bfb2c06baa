"""The devices that transformers computes on: how each is waited for, timed, and asked for the memory that torch has of it."""

from typing import Any

from bench.engines.protocol import Clock
from bench.engines.transformers_steps import DeviceSteps, Steps


class Cpu:
    timing = "perf_counter"

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch, self._device = torch, device

    def begin(self) -> None:
        """Forget the peaks."""

    def ready(self) -> None:
        """Nothing runs on the device any more, and the next request's peak counts from now."""

    def wait(self) -> None:
        """Nothing runs on the device any more."""

    def steps(self, sequences: int, clock: Clock) -> Steps:
        return Steps(self._torch, self._device, sequences, clock)

    def request_values(self) -> dict[str, float]:
        return {}

    def values(self) -> dict[str, float]:
        return {}


class Cuda(Cpu):
    timing = "cuda_events"
    _peak = 0

    def begin(self) -> None:
        self._peak = 0
        self._torch.cuda.empty_cache()
        self._torch.cuda.reset_peak_memory_stats(self._device)

    def ready(self) -> None:
        self._torch.cuda.reset_peak_memory_stats(self._device)
        self.wait()

    def wait(self) -> None:
        self._torch.cuda.synchronize(self._device)

    def steps(self, sequences: int, clock: Clock) -> Steps:
        return DeviceSteps(self._torch, self._device, sequences)

    def request_values(self) -> dict[str, float]:
        peak = self._torch.cuda.max_memory_allocated(self._device)
        self._peak = max(self._peak, peak)
        return {"request_peak_device_bytes": float(peak)}

    def values(self) -> dict[str, float]:
        return {
            "peak_torch_allocated_bytes": float(max(self._peak, self._torch.cuda.max_memory_allocated(self._device))),
            "peak_torch_reserved_bytes": float(self._torch.cuda.max_memory_reserved(self._device)),
        }


class Mps(Cuda):
    """An Apple GPU. Torch keeps no peak there, but what its pool once took stays in it until the next case begins."""

    timing = "mps_events"

    def begin(self) -> None:
        self._peak = 0
        self._torch.mps.empty_cache()

    def ready(self) -> None:
        self.wait()

    def wait(self) -> None:
        self._torch.mps.synchronize()

    def request_values(self) -> dict[str, float]:
        self._peak = max(self._peak, self._torch.mps.driver_allocated_memory())
        return {}

    def values(self) -> dict[str, float]:
        return {"peak_torch_reserved_bytes": float(max(self._peak, self._torch.mps.driver_allocated_memory()))}


DEVICES = {"cpu": Cpu, "cuda": Cuda, "mps": Mps}
