"""When `generate` of transformers had each token: a stopping criterion that takes the time and never stops."""

from typing import TYPE_CHECKING, Any

from bench.engines.protocol import Clock

if TYPE_CHECKING:
    import torch


class Steps:
    """Takes the time whenever `generate` asks whether to stop: once per token, right after it was chosen."""

    def __init__(self, torch: Any, device: "torch.device", clock: Clock) -> None:
        self._never = torch.zeros(1, dtype=torch.bool, device=device)
        self._clock = clock
        self._taken: list[float] = []

    def start(self) -> None:
        pass

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self._taken.append(self._clock())
        return self._never

    def times(self, sent: float) -> tuple[float, ...]:
        return tuple(self._taken)


class CudaSteps(Steps):
    """Records an event on the device per step and reads them all after one synchronise: nothing waits inside the loop."""

    def __init__(self, torch: Any, device: "torch.device") -> None:
        super().__init__(torch, device, lambda: 0.0)
        self._cuda, self._device = torch.cuda, device
        self._stream = torch.cuda.current_stream(device)
        self._first = self._event()
        self._events: list[Any] = []

    def _event(self) -> Any:
        return self._cuda.Event(enable_timing=True)

    def start(self) -> None:
        self._first.record(self._stream)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        event = self._event()
        event.record(self._stream)
        self._events.append(event)
        return self._never

    def times(self, sent: float) -> tuple[float, ...]:
        self._cuda.synchronize(self._device)
        return tuple(sent + self._first.elapsed_time(event) / 1e3 for event in self._events)
