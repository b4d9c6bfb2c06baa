"""What people compare: `latest`, a run's id, a tag, a branch, a baseline, a rolling window, a fork point or a report file becomes a side.

latest · 20261122-1015 (an id or its beginning) · NAME (a baseline, a tag or a branch) · baseline:NAME · tag:NAME · branch:NAME
rolling:K (the last K finished runs of the suite before the other side, of the stable segment) · rolling:K:BRANCH (of one branch)
fork-point[:BRANCH] · report.json

The grammar is `bench.references`', the choice of runs `bench.windows`', pooling `results.sides`'.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.references import Meaning, Reference, meaning, parse_reference
from bench.windows import newest_of_branch, of_fork_point, window
from results.change_points import change_points
from results.decided import Baseline
from results.errors import NotComparableError, UsageError
from results.history_reading import read_history
from results.records import Report, Run
from results.sides import Side, pooled, without
from results.store import Store
from results.stored_runs import StoredRun, stored_runs

LEVELS = ("ttft_s", "tpot_s", "request_rate", "step_s")
"""The metrics whose changes of level end the stable segment of a case."""


def sides(a: str, b: str, store_url: str) -> tuple[Side, Side]:
    """Both sides of a comparison; a reference such as `rolling:5` or `fork-point` means something beside the other one.

    The store is opened only where a side is no file.

    Raises:
        UsageError: nothing, or several things, answer to a reference.
        NotComparableError: a baseline, window or fork point without runs.
    """
    references = (parse_reference(a), parse_reference(b))
    found = {place: _file_side(one) for place, one in enumerate(references) if one.kind == "file"}
    if len(found) < 2:
        with Store.reading(store_url) as store:
            known = _known(store)
            meant = {place: known.meaning(one) for place, one in enumerate(references) if place not in found}
            if len(meant) == 2 and all(one.is_relative for one in meant.values()):
                raise UsageError(f"{a} and {b} both mean something beside another run only: name a run on one side.")
            for place in sorted(meant, key=lambda place: (meant[place].is_relative, meant[place].rule is not None)):
                found[place] = known.side(meant[place], found.get(1 - place))
    return found[0], found[1]


def pinnable(references: Sequence[str], store: Store, *, force: bool = False) -> tuple[str, ...]:
    """The ids of the runs that references mean by themselves, oldest first, if they can stand for one side together.

    Args:
        force: whether runs may be among them that did not finish.

    Raises:
        UsageError: nothing, or several things, answer to one, it is a file, or means something beside another run only; a run did
            not finish, or nothing was measured.
        NotComparableError: a baseline or branch without runs, or runs of different machines.
    """
    known = _known(store)
    reports = [store.report(run_id) for one in references for run_id in known.run_ids(known.meaning(_stored(one)), None)]
    reports = sorted({one.run.run_id: one for one in reports}.values(), key=lambda one: (one.run.started_at, one.run.run_id))
    unfinished = {one.run.run_id: one.status for one in reports if one.status != "finished"}
    for run_id, status in ({} if force else unfinished).items():
        ended = "has not ended" if status == "open" else f"was {status}" if status == "interrupted" else "failed"
        raise UsageError(f"Run {run_id} {ended}: finish it with `bench run --resume {run_id}`, or take it as it is with --force.")
    if not pooled(reports).measurements:
        raise UsageError(f"Nothing was measured in {reports[-1].run.run_id}: a baseline needs a run that measured something.")
    return tuple(one.run.run_id for one in reports)


def _stored(text: str) -> Reference:
    reference = parse_reference(text)
    if reference.kind == "file":
        raise UsageError(f"{text} is a file: store its run with `bench import {text}`, and name that.")
    return reference


@dataclass(frozen=True)
class _Known:
    """What the store holds, for finding the runs of a meaning."""

    store: Store
    runs: Sequence[StoredRun]
    """Newest first."""
    moves: Sequence[Baseline]

    def meaning(self, reference: Reference) -> Meaning:
        return meaning(reference, self.runs, self.moves)

    def run_ids(self, meant: Meaning, other: Side | None) -> tuple[str, ...]:
        """The runs, oldest first."""
        rule = meant.rule
        if rule is None:
            stored = {run.run_id for run in self.runs}
            if lost := [run_id for run_id in meant.run_ids if run_id not in stored]:
                raise NotComparableError(f"Run {lost[0]} of {meant.words} is not in this store: import its report there.")
            return meant.run_ids
        if rule.kind == "branch":
            found = newest_of_branch(rule.name, self.runs, other)
        elif other is None:
            raise UsageError(f"{rule.text} means something beside another run only: name runs instead.")
        elif rule.kind == "rolling":
            found = window(rule, self.runs, self.moves, other)[: rule.count]
        else:
            found = of_fork_point(rule.name or None, self.runs, other)
        return tuple(run.run_id for run in reversed(found))

    def side(self, meant: Meaning, other: Side | None) -> Side:
        reports = [self.store.report(run_id) for run_id in self.run_ids(meant, other)]
        if other and meant.rule and meant.rule.kind == "rolling":
            eligible = {run.run_id for run in window(meant.rule, self.runs, self.moves, other)}
            begun = _levels_begun(self.store, other.report.run, eligible)
            reports = [without(one, {case for case, at in begun.items() if one.run.started_at < at}) for one in reports]
            reports = [one for one in reports if one.run.planned]
        ids = tuple(one.run.run_id for one in reports)
        held = ids[0] if len(ids) == 1 else f"{len(ids)} runs"
        return Side(f"{meant.words} ({held})" if meant.words else held, pooled(reports), ids)


def _known(store: Store) -> _Known:
    return _Known(store, stored_runs(store.engine), store.baselines())


def _levels_begun(store: Store, run: Run, eligible: set[str]) -> dict[str, datetime]:
    """When the newest level of the run's cases began, by case id, as the eligible runs show; steady cases are left out."""
    begun: dict[str, datetime] = {}
    cases = [planned.case.case_id for planned in run.planned]
    for series in read_history(store.engine, cases=cases, metrics=LEVELS, dirty=True):
        points = [point for point in series.points if point.run.run_id in eligible and point.value > 0]
        if found := change_points([math.log(point.value) for point in points]):
            case_id, at = series.planned.case.case_id, points[found[-1].index].run.at
            begun[case_id] = max(begun.get(case_id, at), at)
    return begun


def _file_side(reference: Reference) -> Side:
    path = Path(reference.name)
    report = _read(path)
    name = path.name if path.is_absolute() else reference.name  # reports travel, and this machine's paths do not
    return Side(name, report, (report.run.run_id,))


def _read(path: Path) -> Report:
    try:
        report = Report.from_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}. Name a run, or a report of `bench export --format json`."
        ) from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{path} is no report of this version ({reason}): make one with `bench export --format json`."
        ) from error
    planned = {one.case.case_id for one in report.run.planned}
    if stray := next((one.case_id for one in report.measurements if one.case_id not in planned), None):
        raise UsageError(f"{path} measures case {stray}, which its run did not plan: export it again with `bench export`.")
    return report
