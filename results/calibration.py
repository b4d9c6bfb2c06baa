"""How far the verdicts on a suite can be trusted on a machine: unchanged code and known steps, replayed from stored processes.

What the processes tell is `results.noise`'s, drawing and judging `results.replay`'s, the history's part `results.history_replay`'s, and
what to beware of `results.calibration_notes`'.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from results.calibration_notes import notes_on
from results.decided import CalibratedMetric, Calibration, Power
from results.errors import GemmeterError
from results.history_replay import Delay, delay, summed
from results.metrics import METRICS
from results.noise import LEAST_PROCESSES, Array, Noise, stored_noise
from results.policy import Policy
from results.records import Report
from results.replay import INCONCLUSIVE, NO_CHANGE, REGRESSION, Codes, Ending, Replay, draw

EFFECTS = (0.02, 0.03, 0.05, 0.1, 0.2)
"""Steps that are replayed: relative, or in points."""
MARGINS = (0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Among which one is proposed."""
CALLED_UNCHANGED, FOUND = 0.98, 0.95
"""Shares that a margin must reach: of unchanged code, and of changes of its size."""
BEYOND = 1 + 1e-6
"""So that a change of a margin's size lies beyond it where nothing spreads."""
HISTORY_STEP, HISTORY_SHARE = 0.1, 20
"""The step that is replayed in histories, in so many times fewer trials: each is judged again after every run."""


class TooFewProcessesError(GemmeterError):
    """There is too little to learn from."""

    exit_code = 3


@dataclass(frozen=True)
class CalibratedRow:
    """One metric of one case."""

    case_id: str
    label: str
    metric: str
    processes: int
    runs: int
    spread: float
    """Between processes of one run, as in `CalibratedMetric`."""
    run_spread: float | None
    """Between runs, beyond what their processes explain; `None`: too few runs to tell."""
    trials: int
    false_regressions: int
    inconclusive: int


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and what stands behind it."""

    found: Calibration
    rows: tuple[CalibratedRow, ...]
    run_ids: tuple[str, ...]
    """Oldest first."""
    delays: dict[str, Delay | None]
    """By metric, of a step in `bench history`; `None`: it would not tell a step of that size."""
    wrong_comparisons: int
    """Draws of unchanged code with a regression in any row that gates."""
    trials: int
    notes: tuple[str, ...]
    """Sentences: how sides were drawn, what was left out, and what to beware of."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; `schema` is `calibration/1`."""
        others = {name: value for name, value in vars(self).items() if name not in ("found", "rows", "delays")}
        return {
            "schema": "calibration/1",
            **self.found.model_dump(mode="json"),
            **others,
            "delays": {name: asdict(one) if one else None for name, one in self.delays.items()},
            "rows": [asdict(one) for one in self.rows],
        }


def calibrate(reports: Sequence[Report], policy: Policy, *, trials: int, seed: int, at: datetime) -> Calibrated:
    """Replay what is stored.

    In each trial two sides are drawn and judged at the policy's looks. A metric's figures count one case of each trial, in turn, so
    that its trials do not depend on one another.

    Args:
        reports: runs of one suite on one machine, at least one.

    Raises:
        TooFewProcessesError: no case has enough processes.
    """
    ordered = sorted(reports, key=lambda one: (one.run.started_at, one.run.run_id))
    newest, stored = ordered[-1].run, stored_noise(ordered, policy)
    noises = stored.noises
    if not noises:
        raise TooFewProcessesError(
            f"Too few processes to calibrate {newest.suite!r}: no case has {LEAST_PROCESSES} in runs of two or more processes that may "
            f"be compared. Measure more with `bench run --extend {newest.run_id} --processes {LEAST_PROCESSES}`."
        )
    random = np.random.default_rng(seed)
    replay = Replay(noises, draw(noises, policy.looks[-1], trials, random), policy)
    margins = np.array([one.judged.margin for one in noises], dtype=np.float64)
    unchanged = replay.judged(margins)
    by_metric = {name: np.array([one.row.metric == name for one in noises]).nonzero()[0] for name in METRICS}
    by_metric = {name: rows for name, rows in by_metric.items() if len(rows)}
    metrics = tuple(_metric(replay, margins, unchanged, rows) for rows in by_metric.values())
    gating = np.array([one.judged.gates for one in noises])
    return Calibrated(
        found=Calibration(
            suite=newest.suite,
            machine_id=newest.environment.machine_id,
            at=at,
            policy=policy.name,
            processes=max(len(one.units) for one in noises),
            seed=seed,
            metrics=metrics,
        ),
        rows=tuple(_row(one, verdicts) for one, verdicts in zip(noises, unchanged.verdicts, strict=True)),
        run_ids=tuple(report.run.run_id for report in ordered),
        delays={name: _delay([noises[row] for row in rows], trials, random) for name, rows in by_metric.items()},
        wrong_comparisons=int((unchanged.verdicts[gating] == REGRESSION).any(axis=0).sum()),
        trials=trials,
        notes=(*notes_on(noises, policy), *stored.left_out),
    )


def _metric(replay: Replay, margins: Array, unchanged: Ending, rows: Codes) -> CalibratedMetric:
    name, target = replay.noises[rows[0]].row.metric, _in_turn(rows, replay)
    verdicts = unchanged.verdicts[target, np.arange(len(target))]
    return CalibratedMetric(
        metric=name,
        cases=len(rows),
        spread=_together([replay.noises[row].spread for row in rows]) or 0.0,
        run_spread=_together([replay.noises[row].run_spread for row in rows]),
        trials=len(target),
        false_regressions=int((verdicts == REGRESSION).sum()),
        inconclusive=int((verdicts == INCONCLUSIVE).sum()),
        power=tuple(_power(replay, margins, target, effect) for effect in EFFECTS),
        margin=float(margins[rows].max()),
        proposed_margin=_proposed(replay, margins, rows),
    )


def _power(replay: Replay, margins: Array, target: Codes, effect: float) -> Power:
    """Of a step in one row of each draw."""
    places = target, np.arange(len(target))
    ending = replay.judged(margins, target, replay.noises[target[0]].row.scaled(effect))
    processes = np.array(replay.policy.looks)[ending.looks[places]]
    found = np.sort(processes[ending.verdicts[places] == REGRESSION])
    half = (len(target) - 1) // 2
    return Power(
        effect=effect,
        trials=len(target),
        found=len(found),
        mean_processes=float(processes.mean()),
        processes_for_half=int(found[half]) if len(found) > half else None,
    )


def _proposed(replay: Replay, margins: Array, rows: Codes) -> float | None:
    """The smallest margin at which the metric's rows are called unchanged often enough, and changes of its size are found."""
    target = _in_turn(rows, replay)
    places = target, np.arange(len(target))

    def is_enough(margin: float) -> bool:
        wider = margins.copy()
        wider[rows] = margin
        step = replay.noises[target[0]].row.scaled(margin) * BEYOND
        called = np.mean(replay.judged(wider).verdicts[places] == NO_CHANGE)
        return bool(
            called >= CALLED_UNCHANGED and np.mean(replay.judged(wider, target, step).verdicts[places] == REGRESSION) >= FOUND
        )

    place = bisect_left(MARGINS, True, key=is_enough)
    return MARGINS[place] if place < len(MARGINS) else None


def _in_turn(rows: Codes, replay: Replay) -> Codes:
    """One of the rows for each draw."""
    return np.resize(rows, replay.effects.shape[2])


def _row(noise: Noise, verdicts: Codes) -> CalibratedRow:
    return CalibratedRow(
        case_id=noise.row.planned.case.case_id,
        label=noise.row.planned.label,
        metric=noise.row.metric,
        processes=len(noise.units),
        runs=len({run_id for run_id, _ in noise.units}),
        spread=noise.spread,
        run_spread=noise.run_spread,
        trials=len(verdicts),
        false_regressions=int((verdicts == REGRESSION).sum()),
        inconclusive=int((verdicts == INCONCLUSIVE).sum()),
    )


def _together(spreads: Sequence[float | None]) -> float | None:
    """The root of the mean variance, of the cases where it is known."""
    known = [one**2 for one in spreads if one is not None]
    return math.sqrt(sum(known) / len(known)) if known else None


def _delay(noises: Sequence[Noise], trials: int, random: np.random.Generator) -> Delay | None:
    about = METRICS[noises[0].row.metric]
    if about.margin is None or about.margin >= HISTORY_STEP:
        return None
    each = math.ceil(trials / HISTORY_SHARE / len(noises))
    return summed([found for one in noises for found in delay(one, HISTORY_STEP, each, random)], HISTORY_STEP)
