"""What an engine must offer: refuse or load a case's model, then generate with the time of every token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from bench.workloads import Prompt
from results.records import Case, PromptFormat

Clock = Callable[[], float]
"""Monotonic seconds, as `time.perf_counter`."""


@dataclass(frozen=True)
class Generation:
    """What happened in one request, in raw times of the clock that was passed in."""

    sent: float
    event_times: tuple[float, ...]
    """When the host or the device had each event; one event may carry several tokens."""
    event_tokens: tuple[int, ...]
    prompt_tokens: int
    output_tokens: int
    text: str
    finish_reason: Literal["length", "stop"]
    values: dict[str, float] = field(default_factory=dict)
    """Further metrics of this request, by name."""


class Session(Protocol):
    """A loaded model."""

    timing: str
    """How event times are taken: `perf_counter` or `cuda_events`."""

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        """Token ids with the special tokens that the model expects.

        Raises:
            UnsupportedError: the model has no chat template and `form` is `chat`.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        """Greedy generation: exactly `output_tokens` with `length`, at most so many with `eos`."""

    def recount(self, text: str) -> int:
        """Tokens of a whole text without special tokens: the check of the engine's own count."""

    def values(self) -> dict[str, float]:
        """Metrics of the loaded model and of the time since `reset`: `weights_bytes`, peaks on the device."""

    def reset(self) -> None:
        """Forget the peaks on the device."""


class Engine(Protocol):
    def refuse(self, case: Case) -> str | None:
        """Why this case cannot run here, in one sentence with a remedy; `None` when it can."""

    def load(self, folder: Path, case: Case) -> Session: ...


class UnsupportedError(Exception):
    """The case cannot run with this engine or model; the message says why and what to do."""
