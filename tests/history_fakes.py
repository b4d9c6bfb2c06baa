"""Series over runs with exact values."""

import random
from collections.abc import Sequence
from datetime import timedelta

from fakes import START, make_planned

from results.cases import PlannedCase
from results.history import FailedRun, MetricSeries, Point, RunOrigin
from results.record import Scalar


def make_origin(number: int, **changes: object) -> RunOrigin:
    """Run `number`, an hour after the one before it, of commit `c<number>`."""
    facts: dict[str, Scalar] = {"cpu_model": "Test CPU", "torch": "2.4.0"}
    fields: dict[str, object] = {
        "run_id": f"r{number:03}",
        "at": START + timedelta(hours=number),
        "suite": "quickstart",
        "commit": f"c{number:03}",
        "branch": "main",
        "dirty": False,
        "machine_id": "m1-one",
        "facts": facts,
    }
    return RunOrigin(**(fields | changes))  # type: ignore[arg-type]


def make_series(
    values: Sequence[float | str], metric: str = "tpot_s", planned: PlannedCase | None = None, *, release: Sequence[int] = (),
    first: int = 0, **changes: object,
) -> MetricSeries:  # fmt: skip
    """A point for each number, and a failed run for each kind of failure, from run `first` on.

    Args:
        release: which of the values are the release's.
    """
    runs = [make_origin(first + number, **changes) for number in range(len(values))]
    points = {run.run_id: Point(run, value, 3) for run, value in zip(runs, values, strict=True) if not isinstance(value, str)}
    failed = [FailedRun(run, value) for run, value in zip(runs, values, strict=True) if isinstance(value, str)]
    return MetricSeries(
        planned=planned or make_planned(),
        metric=metric,
        machine_id=runs[0].machine_id,
        points=tuple(points.values()),
        failed=tuple(failed),
        release=tuple(points[runs[number].run_id] for number in release),
    )


def noisy(count: int, level: float = 0.05, spread: float = 0.01, seed: int = 1, drift: float = 0.0) -> list[float]:
    """Values around a level that moves by a share per run."""
    noise = random.Random(seed)
    return [level * (1 + drift) ** run * (1 + noise.gauss(0, spread)) for run in range(count)]
