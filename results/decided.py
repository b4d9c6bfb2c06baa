"""What people decided about results, and what was found out about judging them: baselines, marks on changes, calibrations."""

from typing import Literal

from pydantic import AwareDatetime, FiniteFloat

from results.record import Record


class Baseline(Record):
    """One move of a baseline. Moves are only ever added: the newest of a name is where it stands, the others are its history."""

    name: str
    reference: str | None
    """What it follows, such as `rolling:5` or `tag:release`; `None`: it is pinned to its runs."""
    run_ids: tuple[str, ...]
    """The runs that it is pinned to; empty for one that follows, and for one that was taken away."""
    author: str
    reason: str
    at: AwareDatetime


class Mark(Record):
    """What somebody says about the changes of one series: acknowledged ones are known, muted ones are not told."""

    kind: Literal["acknowledged", "muted"]
    case_id: str
    metric: str
    run_id: str | None = None
    """The run at which the acknowledged change begins; `None`: every change of the series."""
    author: str
    reason: str
    at: AwareDatetime
    expires_at: AwareDatetime | None = None


class Power(Record):
    """How often a known change was found."""

    effect: FiniteFloat
    """Relative, such as 0.05 for +5 %."""
    trials: int
    found: int
    mean_processes: FiniteFloat
    """A side, until the verdict."""
    processes_for_half: int | None = None
    """The detection delay: processes a side after which half of the trials had found it; `None`: they never had."""


class CalibratedMetric(Record):
    """What replays of stored processes say of one metric of a suite on one machine."""

    metric: str
    cases: int
    spread: FiniteFloat
    """Between processes, as the standard deviation of the logarithms of their medians (for shares and scores: of the values)."""
    run_spread: FiniteFloat | None = None
    """The same between runs, beyond what their processes explain; `None`: too few runs to tell."""
    trials: int
    false_regressions: int
    inconclusive: int
    power: tuple[Power, ...] = ()
    margin: FiniteFloat
    """That was used."""
    proposed_margin: FiniteFloat | None
    """The smallest one at which unchanged code is called so and a change of that size is found; `None`: none of those tried."""


class Calibration(Record):
    """What `bench calibrate` found out for a suite on a machine; the gate shows the newest."""

    suite: str
    machine_id: str
    at: AwareDatetime
    policy: str
    """The name of the policy that was replayed."""
    processes: int
    """Stored processes behind it, of the case that has most."""
    seed: int
    metrics: tuple[CalibratedMetric, ...]
