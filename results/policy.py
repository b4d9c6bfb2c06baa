"""What a gate judges by: which metrics count, their margins and floors, and what happens where no verdict can be given.

A policy is YAML with a schema (`suites/policy.schema.json`). How it is applied is `results.gate`'s.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from results.cases import PlannedCase
from results.metrics import Metric
from results.records import FailureKind


class Rule(BaseModel):
    """How some metrics of some cases are judged; of the rules that fit a row the last one counts, field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: tuple[str, ...] = ("*",)
    """Names, or patterns such as `ttft_*`."""
    cases: str = "*"
    """A pattern of labels, case ids or tags."""
    gate: bool | None = None
    """Whether a change for the worse fails the gate; otherwise it is shown."""
    margin: str | float | None = None
    """What does not matter, relative (`5%`), or in points for scores and shares (`1 point`); `None`: the metric's own."""
    floor: str | float | None = None
    """Differences below it do not matter whatever their ratio, in the metric's unit: `1 ms`, `10 MiB`, or a number in base units."""


class Policy(BaseModel):
    """A gate's policy."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Gemmeter gate policy")

    name: str = "default"
    rules: tuple[Rule, ...] = ()
    inconclusive: Literal["fail", "pass"] = "fail"
    """Whether a gate without a verdict ends with 3, or with 0 and a warning."""
    missing_cases: Literal["fail", "pass"] = "fail"
    """Cases that the baseline measured and the candidate does not have: inconclusive, or a note."""
    lone_regressions: Literal["fail", "confirm"] = "fail"
    """One flagged row that nothing corroborates: a regression, or inconclusive until it is confirmed by more processes."""
    allow_failures: tuple[FailureKind, ...] = ()
    """Kinds of new failures that are shown and fail nothing."""
    allow_env_diff: tuple[str, ...] = ()
    """Hard facts of the environment that may differ."""
    confidence: float = 0.95
    """Of intervals, and one minus the false discovery rate over all rows."""
    looks: tuple[int, ...] = (3, 5, 8, 12)
    """Processes a side after which `--until-decided` looks; alpha is spent over them."""

    def margin_of(self, planned: PlannedCase, metric: Metric) -> float | None:
        """The margin of a row: relative, or points; `None` where nothing is judged."""
        raise NotImplementedError

    def floor_of(self, planned: PlannedCase, metric: Metric) -> float:
        """The floor of a row in the metric's base unit; 0: none."""
        raise NotImplementedError

    def gates(self, planned: PlannedCase, metric: Metric) -> bool:
        raise NotImplementedError


def load_policy(path: Path) -> Policy:
    """
    Raises:
        UsageError: no such file, or it says something that policies cannot say; each finding with its path.
    """
    raise NotImplementedError
