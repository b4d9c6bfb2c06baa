"""The words of preparing weights, which downloading and converting share: how progress is told, and what can go wrong."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from results.errors import GemmeterError
from results.records import FailureKind

Progress = Callable[[str, float | None], None]
"""Called with the step in words and the share of it that is done, 0 to 1, or `None` where nobody knows.
Downloads call it from several threads."""


class WeightsError(GemmeterError):
    """Weights that cannot be made ready.

    Attributes:
        kind: of the failure that a case with these weights has.
    """

    kind: FailureKind = "engine_error"


class MissingWeightsError(WeightsError):
    kind: FailureKind = "missing_weights"


class TooLittleMemoryError(WeightsError):
    kind: FailureKind = "oom"


class MissingDependencyError(WeightsError):
    kind: FailureKind = "missing_dependency"


class UnsupportedWeightsError(WeightsError):
    kind: FailureKind = "unsupported"


def unwritable(cache: Path, error: OSError) -> WeightsError:
    """The error for a cache that is full or may not be written."""
    return WeightsError(
        f"the cache {cache} cannot be written ({error.strerror or error}): free some space there, or set BENCH_CACHE to another folder"
    )


def be_first_to_go() -> None:
    """Ask the kernel to end this process before any other when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
