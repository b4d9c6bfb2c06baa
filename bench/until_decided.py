"""`bench gate --until-decided`: more processes of the undecided cases only, until every case has its verdict or a limit is reached.

Both sides are measured in turn where both can run here, so that what happens to the machine happens to both.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from results.gate import Judgement
from results.policy import Policy
from results.sides import Side


@dataclass(frozen=True)
class Place:
    """Where a side is measured: an interpreter, whose packages are what is compared, and a folder."""

    python: Path = Path(sys.executable)
    folder: Path | None = None
    """Of a checkout; `None`: the current one."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment, set for this side alone."""


def parse_place(text: str, option: str) -> Place:
    """`python=/venv/bin/python folder=../main env.OMP_WAIT_POLICY=active` (any of them, in any order) as a place.

    Raises:
        UsageError: unknown keys, a file that is no interpreter or has no gemmeter, no such folder; the message begins with `option`.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Decided:
    a: Side
    b: Side
    judgement: Judgement


def until_decided(
    suite: str, settings: tuple[str, ...], b: Place, policy: Policy, store_url: str, *, a: Place | None = None,
    against: str | None = None, most: int | None = None, allow: tuple[str, ...] = (),
    told: Callable[[Judgement], None] = lambda _: None,
) -> Decided:  # fmt: skip
    """Measure a suite on one side or both until it is decided.

    Args:
        settings: `axis=value` overrides, as of `bench run --set`.
        a: where the baseline is measured, in turn with b; `None`: it is not, and `against` is stored.
        against: the stored baseline, a reference of `bench.sides`.
        most: processes a side at the most; `None`: the policy's last look.
        allow: hard facts of the environment that may differ.
        told: called after every look.

    Raises:
        UsageError: neither or both of `a` and `against`, or what `bench run` refuses.
        NotComparableError: no baseline, or hard facts differ.
    """
    raise NotImplementedError
