"""How a fine-tuning becomes timed steps, inside the worker: each optimizer step is a request without content."""

from collections.abc import Callable, Iterator

from bench.engines.protocol import Session
from bench.measure import Instruments
from results.cases import PlannedCase
from results.records import Request


def measure_training(
    session: Session, planned: PlannedCase, process: int, seed: int, origin: float, tools: Instruments,
    phase: Callable[[str, int, int], None],
) -> Iterator[Request]:  # fmt: skip
    """Train and yield each counted step.

    Raises:
        UnsupportedError: the session cannot be trained.
    """
    raise NotImplementedError
