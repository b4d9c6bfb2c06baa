"""What need not be tried: a case that asks for more than one like it that was out of memory. Pure; the sweep stores what it says."""

from collections.abc import Collection, Iterable
from typing import Any

from results.cases import Case, PlannedCase
from results.records import Report

SIZES = {
    "batch": "batch {}",
    "prompt_tokens": "prompt {}",
    "output_tokens": "output {}",
    "depth": "depth {}",
    "slots": "{} slots",
    "concurrency": "concurrency {}",
}
"""What only adds to the memory of a case, and its words."""


def pruned_by(planned: PlannedCase, too_large: Iterable[PlannedCase]) -> PlannedCase | None:
    """One of these cases, which were out of memory, that is the same as the planned one with less; `None`: it may fit."""
    return next((one for one in too_large if _asks_for_more(planned, one)), None)


def message(planned: PlannedCase, by: PlannedCase) -> str:
    """Why it was not tried, in one sentence with a remedy."""
    mine, its = _sizes(planned.case), _sizes(by.case)
    less = ", ".join(words.format(its[name]) for name, words in SIZES.items() if mine[name] != its[name])
    return f"Not tried: the same with {less} was out of memory: choose less, or a smaller model or dtype."


def out_of_memory(report: Report, again: Collection[str]) -> list[PlannedCase]:
    """Cases of a run that were out of memory and never measured.

    Args:
        again: ids of cases that are to be tried again, whatever they came to.
    """
    settled = {one.case_id for one in report.measurements} | set(again)
    failed = dict.fromkeys(one.case_id for one in report.failures if one.kind == "oom")
    return [report.run.plan_of(case_id) for case_id in failed if case_id not in settled]


def _asks_for_more(planned: PlannedCase, than: PlannedCase) -> bool:
    """Whether it asks for at least as much in all, for more in something, is given no more memory, and is else the same."""
    if _else(planned.case) != _else(than.case) or not _no_more_memory(planned.memory_limit_bytes, than.memory_limit_bytes):
        return False
    pairs = list(zip(_sizes(planned.case).values(), _sizes(than.case).values(), strict=True))
    return all(_at_least(*pair) for pair in pairs) and any(mine != its for mine, its in pairs)


def _no_more_memory(mine: int | None, its: int | None) -> bool:
    return its is None or (mine is not None and mine <= its)


def _at_least(mine: int | None, its: int | None) -> bool:
    """`None`, a length that differs from prompt to prompt, is comparable to itself alone."""
    return mine == its or (mine is not None and its is not None and mine > its)


def _sizes(case: Case) -> dict[str, int | None]:
    own: dict[str, int | None] = {name: getattr(case, name) for name in SIZES if name != "concurrency"}
    return own | {"slots": case.slots or 1, "concurrency": case.load.concurrency if case.load else None}


def _else(case: Case) -> dict[str, Any]:
    return case.model_dump(exclude=_EXCLUDED)


_EXCLUDED: Any = {name: True for name in SIZES if name != "concurrency"} | {"load": {"concurrency"}}
