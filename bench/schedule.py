"""In which order the loads and cases of a run are visited, and what of it is still to do."""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from results.cases import PlannedCase
from results.records import Failure, Measurement

DECIDED = frozenset({"unsupported", "missing_dependency", "missing_weights", "oom", "timeout", "bad_output", "pruned"})
"""Failures that another process would only repeat: such a case is not tried again in later rounds."""


@dataclass(frozen=True)
class Batch:
    """Cases that share one load, in one round."""

    process: int
    cases: tuple[PlannedCase, ...]


def rounds(planned: Iterable[PlannedCase], seed: int) -> list[Batch]:
    """Every case as often as it wants processes: each round visits every load once in random order and shuffles its cases.

    Quality passes come last in their load, so that speed is measured in a fresh process. What is estimated not to fit comes last of
    all, the smallest first: once one is out of memory, larger ones need not be tried.
    """
    loads: dict[str, list[PlannedCase]] = defaultdict(list)
    for one in planned:
        loads[load_id(one)].append(one)
    order = random.Random(seed)  # noqa: S311 an order, not a secret
    batches = []
    for process in range(max((one.processes for cases in loads.values() for one in cases), default=0)):
        this_round = [[one for one in cases if process < one.processes] for cases in loads.values()]
        order.shuffle(this_round)
        this_round.sort(key=lambda cases: min(map(_excess_bytes, cases), default=0))
        for cases in this_round:
            order.shuffle(cases)
            cases.sort(key=lambda one: (one.case.purpose == "quality", _excess_bytes(one)))
            if cases:
                batches.append(Batch(process, tuple(cases)))
    return batches


def load_id(planned: PlannedCase) -> str:
    """What cases have in common that share a load."""
    if planned.isolated:
        return planned.case.case_id
    return planned.case.config_id if planned.context_tokens is None else f"{planned.case.config_id}@{planned.context_tokens}"


def _excess_bytes(planned: PlannedCase) -> int:
    """What a case is estimated to take where that is more than there is; else 0."""
    expected = planned.estimate
    return expected.total_bytes if expected and expected.fits is False else 0


def with_processes(planned: Iterable[PlannedCase], processes: int, case_ids: Collection[str] = ()) -> tuple[PlannedCase, ...]:
    """The same plan with these cases (all, if none is named) in at least so many processes; a quality pass stays as it is."""
    return tuple(
        one.model_copy(update={"processes": processes})
        if one.processes < processes and one.case.purpose != "quality" and (not case_ids or one.case.case_id in case_ids)
        else one
        for one in planned
    )


def pending(
    batches: Iterable[Batch], measurements: Iterable[Measurement], failures: Iterable[Failure], *, retry_failed: bool = False
) -> list[Batch]:
    """What is left of the batches, in their order: nothing that was measured, nor, unless `retry_failed`, what failed.

    An interrupted case is always left; a failure that another process would only repeat settles the case in all rounds.
    """
    done = {(one.case_id, one.process) for one in measurements}
    given_up = set()
    for failure in failures:
        if failure.kind != "interrupted" and not retry_failed:
            done.add((failure.case_id, failure.process))
            if failure.kind in DECIDED:
                given_up.add(failure.case_id)
    left = []
    for batch in batches:
        cases = tuple(
            one for one in batch.cases if (one.case.case_id, batch.process) not in done and one.case.case_id not in given_up
        )
        if cases:
            left.append(Batch(batch.process, cases))
    return left
