"""Alert rules: what a YAML file may say, checked. Evaluating them is left to `results.alerts`."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from results.metrics import METRICS, Metric
from results.validation import load_yaml, nearest, parse_yaml

SUCCESS_RATE = Metric("success_rate", "share", "higher", "request", "Success rate",
                      "Share of the requests that succeeded, over successful and failed ones.")  # fmt: skip
SUCCESSFUL_REQUESTS = Metric("successful_requests", "requests", "higher", "request", "Successful requests",
                             "How many of the requests succeeded.")  # fmt: skip

RULE_METRICS: dict[str, Metric] = {
    **{name: metric for name, metric in METRICS.items() if metric.level == "request" and metric.tool is None},
    **{metric.name: metric for metric in (SUCCESS_RATE, SUCCESSFUL_REQUESTS)},
}
"""What a rule can watch: the metrics of a request, and two that look at all requests together."""


class Rule(BaseModel):
    """A limit on one metric over the last requests of each case."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"oneOf": [{"required": ["above"]}, {"required": ["below"]}]},
    )

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Unique in the file.")
    metric: str = Field(
        description="A metric of a request, such as e2e_s (its mean over the successful requests is judged), "
        "or success_rate or successful_requests, which count the failed ones too."
    )
    above: FiniteFloat | None = Field(
        None, description="Fires when the value is greater; in the metric's base unit (s, B, tok/s)."
    )
    below: FiniteFloat | None = Field(None, description="Fires when the value is smaller; likewise.")
    last: Annotated[int, Field(ge=1, le=10_000)] = Field(10, description="How many of the newest requests are looked at.")
    min_samples: Annotated[int, Field(ge=1)] = Field(1, description="With fewer values than this the alert has no data.")
    severity: Literal["low", "medium", "high"] = "medium"
    description: str = Field("", description="For people.")

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in RULE_METRICS:
            return name
        if name in METRICS:
            raise ValueError(f"{name!r} is no metric of single requests: choose from {', '.join(RULE_METRICS)}.")
        raise ValueError(f"unknown metric {name!r}{nearest(name, RULE_METRICS)}")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("give either `above` or `below`.")
        if self.min_samples > self.last:
            raise ValueError(f"min_samples ({self.min_samples}) can never be reached with the last {self.last} requests.")
        return self

    @property
    def threshold(self) -> float:
        return self.above if self.above is not None else self.below or 0.0

    def fires(self, value: float) -> bool:
        return value > self.threshold if self.above is not None else value < self.threshold


class RuleFile(BaseModel):
    """Alert rules of Gemmeter."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Gemmeter alert rules")

    rules: list[Rule] = Field(min_length=1)

    @field_validator("rules")
    @classmethod
    def _unique(cls, rules: list[Rule]) -> list[Rule]:
        names = [rule.name for rule in rules]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"{name!r} names both rule {names.index(name)} and rule {index}: give each its own name.")
        return rules


def load_rules(path: Path | None = None) -> tuple[Rule, ...]:
    """The rules of a YAML file, or of the built-in one: the five thresholds of the Gemma tutorial.

    Raises:
        UsageError: no such file, or it says something that rules cannot say; each finding with its path.
    """
    if path is not None:
        return tuple(load_yaml(path, RuleFile).rules)
    text = (files("suites") / "rules" / "tutorial.yaml").read_text(encoding="utf-8")
    return tuple(parse_yaml(text, RuleFile, "tutorial.yaml").rules)


def json_schema() -> str:
    """The JSON Schema of a rule file, for editors; `suites/rules.schema.json` holds the same."""
    return json.dumps(RuleFile.model_json_schema(), indent=2) + "\n"
