"""What a gate judges by: which metrics count, their margins and floors, and what happens where no verdict can be given.

A policy is YAML with a schema (`suites/policy.schema.json`). How it is applied is `results.gate`'s.
"""

import json
import math
import re
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from results.cases import PlannedCase
from results.metrics import METRICS, Metric
from results.records import HARD_FACTS, FailureKind
from results.stats import CONFIDENCE
from results.validation import load_yaml, nearest

MIN_REPLICATES = 3
"""A side: with fewer processes (or items of a score) nothing noisy is judged."""

_JUDGEABLE = {name: metric for name, metric in METRICS.items() if metric.better}
_POINTS = ("point", "points")
_UNITS = {
    "ns": ("s", 1e-9), "us": ("s", 1e-6), "µs": ("s", 1e-6), "ms": ("s", 1e-3), "min": ("s", 60.0),
    "kB": ("B", 1e3), "MB": ("B", 1e6), "GB": ("B", 1e9), "KiB": ("B", 2.0**10), "MiB": ("B", 2.0**20), "GiB": ("B", 2.0**30),
    "mJ": ("J", 1e-3), "kJ": ("J", 1e3), "/s": ("1/s", 1.0),
}  # fmt: skip
"""What people write beside the metrics' own units: the base unit and the factor to it."""


class Rule(BaseModel):
    """How some metrics of some cases are judged; of the rules that fit a row the last one counts, field by field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: Annotated[tuple[str, ...], Field(min_length=1, description="Names, or patterns such as `ttft_*`.")] = ("*",)
    cases: str = Field("*", description="A pattern of labels, case ids or tags.")
    gate: bool | None = Field(None, description="Whether a change for the worse fails the gate; otherwise it is shown.")
    margin: str | float | None = Field(
        None, description="What does not matter, relative (`5%`), or in points for scores and shares (`1 point`)."
    )
    floor: str | float | None = Field(
        None,
        description="Differences below it do not matter whatever their ratio: `1 ms`, `10 MiB`, or a number in base units.",
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _listed(cls, metrics: Any) -> Any:
        if isinstance(metrics, str):
            raise ValueError(f"write it as a list: [{metrics}]")
        return metrics

    @field_validator("metrics")
    @classmethod
    def _known(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if pattern in METRICS and pattern not in _JUDGEABLE:
                raise ValueError(f"{pattern!r} is neither better nor worse when it changes, and cannot be judged.")
            if not _named(pattern):
                is_pattern = set("*?[") & set(pattern)
                raise ValueError(
                    f"no metric fits {pattern!r}." if is_pattern else f"unknown metric {pattern!r}{nearest(pattern, _JUDGEABLE)}"
                )
        return patterns

    @field_validator("margin", "floor", mode="before")
    @classmethod
    def _positive(cls, given: Any) -> Any:
        if given is None:
            return None
        value = _split(given)[0] if isinstance(given, str) else given
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{given!r} is no amount: write it such as 5%, 1 point, 2 ms or 10 MiB.")
        return given

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        """Each pattern has a metric that the margin and the floor can be of: 5 % is nothing for a score, 1 ms nothing for bytes."""
        if not isinstance(self.margin, str) and self.margin is not None and self.margin >= 1:
            raise ValueError(f"margin: {self.margin:g} would be {100 * self.margin:g} %: write it such as 5% or 1 point.")
        for pattern in self.metrics:
            for field, given, read in (("margin", self.margin, _margin), ("floor", self.floor, _floor)):
                if given is not None and all(read(given, metric) is None for metric in _named(pattern)):
                    units = sorted({metric.unit for metric in _named(pattern)})
                    raise ValueError(f"{field}: {given!r} says nothing about {pattern} (unit: {', '.join(units)}).")
        return self

    def fits(self, planned: PlannedCase, metric: Metric) -> bool:
        """Whether the rule speaks of this metric of this case."""
        names = (planned.label, planned.case.case_id, *planned.tags)
        return any(fnmatchcase(metric.name, one) for one in self.metrics) and any(fnmatchcase(one, self.cases) for one in names)


class Policy(BaseModel):
    """A gate's policy."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Gemmeter gate policy")

    name: str = Field("default", min_length=1, description="For people; the file's name unless given.")
    rules: tuple[Rule, ...] = Field((), description="Of the rules that fit a row the last one counts, field by field.")
    inconclusive: Literal["fail", "pass"] = Field(
        "fail", description="Whether rows without a verdict end the gate with 3, or with 0 and a warning."
    )
    missing_cases: Literal["fail", "pass"] = Field(
        "fail", description="What the baseline measured and the candidate does not have: inconclusive, or a note."
    )
    lone_regressions: Literal["fail", "confirm"] = Field(
        "fail", description="A flagged row that nothing corroborates: a regression, or inconclusive until the last look."
    )
    allow_failures: tuple[FailureKind, ...] = Field((), description="Kinds of new failures that are shown and fail nothing.")
    allow_env_diff: tuple[str, ...] = Field((), description="Hard facts of the environment that may differ.")
    confidence: float = Field(
        CONFIDENCE, gt=0.5, lt=1, description="Of intervals, and one minus the false discovery rate over all rows."
    )
    looks: tuple[int, ...] = Field(
        (3, 4, 5, 6, 7, 8, 10, 12, 16), min_length=1, max_length=20,
        description="Processes a side after which `bench gate --until-decided` looks; alpha is spent over them.",
    )  # fmt: skip

    @field_validator("looks")
    @classmethod
    def _growing(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if looks[0] < MIN_REPLICATES or any(later <= earlier for earlier, later in pairwise(looks)):
            raise ValueError(f"must grow, from {MIN_REPLICATES} processes or more, such as [3, 5, 8].")
        return looks

    @field_validator("allow_env_diff")
    @classmethod
    def _hard(cls, facts: tuple[str, ...]) -> tuple[str, ...]:
        for fact in facts:
            if fact not in HARD_FACTS:
                raise ValueError(f"unknown hard fact {fact!r}{nearest(fact, sorted(HARD_FACTS))}")
        return facts

    def margin_of(self, planned: PlannedCase, metric: Metric) -> float | None:
        """The margin of a row: relative, or points as a share of 1; `None` where nothing is judged."""
        own = (0.0 if metric.exact else None) if metric.margin is None else metric.margin
        given = [_margin(rule.margin, metric) for rule in self.rules if rule.fits(planned, metric)]
        return next((margin for margin in reversed(given) if margin is not None), own) if metric.better else None

    def floor_of(self, planned: PlannedCase, metric: Metric) -> float:
        """The floor of a row in the metric's base unit; 0: none."""
        given = [_floor(rule.floor, metric) for rule in self.rules if rule.fits(planned, metric)]
        return next((floor for floor in reversed(given) if floor is not None), 0.0)

    def gates(self, planned: PlannedCase, metric: Metric) -> bool:
        """Whether the row decides, if it is judged at all."""
        given = [rule.gate for rule in self.rules if rule.fits(planned, metric)]
        return next((gate for gate in reversed(given) if gate is not None), True)

    @property
    def asked(self) -> frozenset[str]:
        """Metrics that have a margin by these rules and none by themselves: a comparison must be asked for them."""
        return frozenset(
            metric.name
            for rule in self.rules
            for pattern in rule.metrics
            for metric in _named(pattern)
            if _margin(rule.margin, metric) is not None and metric.margin is None
        )


def load_policy(path: Path) -> Policy:
    """
    Raises:
        UsageError: no such file, or it says something that policies cannot say; each finding with its path.
    """
    policy = load_yaml(path, Policy)
    return policy if "name" in policy.model_fields_set else policy.model_copy(update={"name": path.stem})


def json_schema() -> str:
    """The JSON Schema of a policy file, for editors; `suites/policy.schema.json` holds the same."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Policy.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


def _named(pattern: str) -> list[Metric]:
    return [metric for name, metric in _JUDGEABLE.items() if fnmatchcase(name, pattern)]


def _split(text: str) -> tuple[float | None, str]:
    """`1.5 ms` → (1.5, "ms"); the number is `None` when there is none."""
    found = re.fullmatch(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)?\s*", text)
    return (float(found[1]), found[2] or "") if found else (None, text)


def _margin(given: str | float | None, metric: Metric) -> float | None:
    """A margin on the metric's scale; `None`: it is of another kind."""
    if not isinstance(given, str):
        return given
    value, unit = _split(given)
    in_points = metric.unit in ("score", "share")
    if value is None or unit not in (*_POINTS, "%") or in_points != (unit in _POINTS):
        return None
    return value / 100


def _floor(given: str | float | None, metric: Metric) -> float | None:
    """A floor in the metric's base unit; `None`: it is of another kind."""
    if not isinstance(given, str):
        return given
    value, unit = _split(given)
    if value is None:
        return None
    if unit in _POINTS:
        return value / 100 if metric.unit in ("score", "share") else None
    base, factor = _UNITS.get(unit, (unit, 1.0))
    return value * factor if base == metric.unit else None
