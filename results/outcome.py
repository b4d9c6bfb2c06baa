"""What came of two sides: a judgement, or why there is none, with the commands that repeat and accept it. Files and pages draw it."""

import json
import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from results.compare import compare, compare_environments
from results.comparison import Difference
from results.decided import Calibration
from results.errors import NotComparableError
from results.format import plain
from results.gate import Judgement, gate
from results.policy import Policy
from results.records import HARD_FACTS, Run
from results.sides import Side
from results.verdict_words import calibrated, headline, spoken


@dataclass(frozen=True)
class Outcome:
    """One comparison, judged or refused."""

    sides: tuple[Side, Side] | None
    """`None`: one of them could not be found."""
    judgement: Judgement | None
    """`None`: the sides must not be compared."""
    refusal: str = ""
    """Why there is no judgement: one sentence with a remedy."""
    command: tuple[str, ...] = ()
    """That repeats it."""
    accept: tuple[str, ...] = ()
    """That makes B the baseline; empty where there is none to move."""
    calibration: Calibration | None = None

    @property
    def exit_code(self) -> int:
        return self.judgement.exit_code if self.judgement else NotComparableError.exit_code

    @property
    def verdict(self) -> str:
        """In words, such as `no change` or `not comparable`."""
        return spoken(self.judgement.verdict) if self.judgement else "not comparable"

    @property
    def sentence(self) -> str:
        """The verdict and how many rows stand behind it, or the refusal."""
        return headline(self.judgement) if self.judgement else self.refusal

    @property
    def runs(self) -> tuple[tuple[str, Side, Run], ...]:
        """A and B with their newest run; empty where a side could not be found."""
        return tuple((name, side, side.report.run) for name, side in zip("AB", self.sides or (), strict=False))

    @property
    def suite(self) -> str:
        return self.sides[1].report.run.suite if self.sides else ""

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Between the environments, hard ones first; known although they forbid the comparison."""
        if not self.sides:
            return ()
        a, b = (side.report.run.environment for side in self.sides)
        return compare_environments(a, b, allow=HARD_FACTS)

    @property
    def calibration_words(self) -> str:
        return calibrated(self.calibration, self.suite) if self.sides else ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON: the judgement's, or the refusal's, and what was compared."""
        judged = self.judgement.to_dict() if self.judgement else {"schema": "judgement/1", "verdict": "not_comparable"}
        sides = {
            name.lower(): {
                "name": side.name,
                "run_ids": list(side.run_ids),
                "git_commit": run.git_commit,
                "git_dirty": run.git_dirty,
            }
            for name, side, run in self.runs
        }
        return {
            **judged,
            "exit_code": self.exit_code,
            "refusal": self.refusal or None,
            "differences": [asdict(one) for one in self.differences],
            "sides": sides,
            "command": list(self.command),
            "accept": list(self.accept) or None,
            "calibration": self.calibration.model_dump(mode="json") if self.calibration else None,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def outcome_of(sides: tuple[Side, Side], policy: Policy, allow: Collection[str] = ()) -> Outcome:
    """Compare two sides and judge them. Sides that share processes are refused: what stands on both would prove nothing.

    Args:
        allow: hard facts of the environment that may differ, beside those of the policy.

    Raises:
        UsageError: `allow` names a fact that does not exist.
    """
    a, b = sides
    known = {one.attempt_id for one in a.report.measurements}
    both = {one.run_id for one in b.report.measurements if one.attempt_id in known} | (set(a.run_ids) & set(b.run_ids))
    if both:
        told = f"Run {min(both)} is on both sides, which would prove nothing: measure with `bench run`, or name another run."
        return Outcome(sides, None, told)
    try:
        comparison = compare(a.report, b.report, {*allow, *policy.allow_env_diff}, (a.name, b.name), policy.asked)
    except NotComparableError as error:
        return Outcome(sides, None, str(error))
    return Outcome(sides, gate(comparison, policy))


def shell(command: tuple[str, ...]) -> str:
    """A command for a shell."""
    return plain(shlex.join(command))
