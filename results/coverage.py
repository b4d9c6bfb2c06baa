"""What a store knows about each combination of model, engine and level: measured, failed, planned only, or never tried."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from results.cases import PlannedCase

State = Literal["measured", "partly", "failed", "not reached", "never tried"]


@dataclass(frozen=True)
class Covered:
    """One case over all runs."""

    planned: PlannedCase
    measured: int = 0
    """How many measurements there are."""
    failure: str | None = None
    """The kind of its last failure."""

    @property
    def outcome(self) -> str:
        """`measured`, the kind of the failure, or `not reached`."""
        return "measured" if self.measured else self.failure or "not reached"


@dataclass(frozen=True)
class Cell:
    """All cases where a row and a column meet."""

    cases: tuple[Covered, ...] = ()

    @property
    def state(self) -> State:
        outcomes = {one.outcome for one in self.cases}
        if not outcomes:
            return "never tried"
        if outcomes == {"measured"}:
            return "measured"
        if "measured" in outcomes:
            return "partly"
        return "not reached" if outcomes == {"not reached"} else "failed"

    @property
    def text(self) -> str:
        """How many cases ended how, such as `2 measured, 1 oom`."""
        counts = Counter(one.outcome for one in self.cases)
        ordered = sorted(counts.items(), key=lambda item: (item[0] != "measured", item[0]))
        return ", ".join(f"{count} {outcome}" for outcome, count in ordered) or "–"


@dataclass(frozen=True)
class Matrix:
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    """By row and column; combinations that nobody planned are absent."""

    def cell(self, row: str, column: str) -> Cell:
        return self.cells.get((row, column), Cell())


def _level(planned: PlannedCase) -> str:
    case = planned.case
    return case.dtype if case.quantization == case.dtype else f"{case.quantization} in {case.dtype}"


AXES: dict[str, Callable[[PlannedCase], str]] = {
    "model": lambda planned: planned.model + (" (random weights)" if planned.case.has_random_weights else ""),
    "engine and level": lambda planned: f"{planned.case.engine} {_level(planned)}",
    "engine": lambda planned: planned.case.engine,
    "level": _level,
    "device": lambda planned: planned.case.target or planned.case.device,
    "task": lambda planned: planned.case.shape,
    "attention": lambda planned: planned.case.attention or "the engine's own",
    "threads": lambda planned: str(planned.case.threads or "–"),
}
"""What a matrix can be made by: the name of the axis, and what a case is on it."""


def matrix(covered: Iterable[Covered], rows: str, columns: str) -> Matrix:
    """Cases by two of the `AXES`, both in the order in which they first came."""
    cells: dict[tuple[str, str], Cell] = {}
    for one in covered:
        place = AXES[rows](one.planned), AXES[columns](one.planned)
        cells[place] = Cell((*cells.get(place, Cell()).cases, one))
    return Matrix(_firsts(row for row, _ in cells), _firsts(column for _, column in cells), cells)


def _firsts(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def gaps(found: Matrix) -> Sequence[tuple[str, str]]:
    """Combinations that were never tried."""
    return [(row, column) for row in found.rows for column in found.columns if (row, column) not in found.cells]
