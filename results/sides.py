"""One side of a comparison: one run, or several that stand for one thing, pooled process by process."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.records import Report


@dataclass(frozen=True)
class Side:
    """What is compared, and what people call it."""

    name: str
    """Such as `20261122-101500-ab12`, `baseline main (3 runs)` or `report.json`."""
    report: Report
    """Of several runs: pooled, under the newest one's run."""
    run_ids: tuple[str, ...]
    """Oldest first."""


def pooled(reports: Sequence[Report]) -> Report:
    """Several runs as one: all of their processes count, renumbered, under the newest run with the union of the plans.

    Raises:
        NotComparableError: hard facts of their environments differ.
    """
    raise NotImplementedError
