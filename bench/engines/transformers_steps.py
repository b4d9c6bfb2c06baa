"""When `generate` of transformers had each token: a stopping criterion that takes the time and never stops."""

from itertools import pairwise
from typing import Any

from bench.engines.protocol import Clock


class Steps:
    """Takes the time whenever `generate` asks whether to stop: once per step, right after its tokens were chosen."""

    def __init__(self, torch: Any, device: Any, sequences: int, clock: Clock) -> None:
        self._never = torch.zeros(sequences, dtype=torch.bool, device=device)
        self._clock = clock
        self._taken: list[float] = []
        self._lengths: list[int] = []

    def start(self) -> None:
        pass

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self._taken.append(self._clock())
        self._lengths.append(input_ids.shape[1])
        return self._never

    def times(self, sent: float) -> tuple[float, ...]:
        return tuple(self._taken)

    def tokens(self, prompt_tokens: int) -> list[int]:
        """That each step added to every sequence, prompts being so long."""
        return [after - before for before, after in pairwise([prompt_tokens, *self._lengths])]


class DeviceSteps(Steps):
    """Records an event on the device per step and reads them all after one synchronise: nothing waits inside the loop."""

    def __init__(self, torch: Any, device: Any, sequences: int) -> None:
        super().__init__(torch, device, sequences, lambda: 0.0)
        self._accelerator = getattr(torch, device.type)
        self._where = (torch.cuda.current_stream(device),) if device.type == "cuda" else ()
        self._first = self._event()
        self._events: list[Any] = []

    def _event(self) -> Any:
        return self._accelerator.Event(enable_timing=True)

    def start(self) -> None:
        self._first.record(*self._where)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        event = self._event()
        event.record(*self._where)
        self._events.append(event)
        self._lengths.append(input_ids.shape[1])
        return self._never

    def times(self, sent: float) -> tuple[float, ...]:
        self._accelerator.synchronize()
        return tuple(sent + self._first.elapsed_time(event) / 1e3 for event in self._events)


def own_events(times: tuple[float, ...], tokens: list[int], count: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """(times, tokens) of the events of a sequence that has this many of the tokens that the steps added; the rest is padding."""
    kept = []
    for time, added in zip(times, tokens, strict=True):
        if count <= 0:
            break
        kept.append((time, min(added, count)))
        count -= added
    return tuple(time for time, _ in kept), tuple(added for _, added in kept)
