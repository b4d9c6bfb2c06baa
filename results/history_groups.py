"""Which changes of a history belong together, which are known, and what follows. Finding them is `results.history_changes`'.

Changes of several series in one window of runs are one finding, as ten series that change together are rarely noise.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from results.compare import compare_environments
from results.comparison import Difference
from results.decided import Mark
from results.history import Change, History, MetricSeries, RunOrigin
from results.metrics import METRICS
from results.records import Environment

State = Literal["worse", "waiting", "recovered", "better", "acknowledged", "muted", "small", "described"]

STATES: tuple[State, ...] = ("worse", "waiting", "recovered", "better", "acknowledged", "muted", "small", "described")
"""Worst first."""

NEAR = 2
"""Runs of a series by which later runs may move a change and an acknowledgement still means it: fewer than lie between two changes."""

_SHARED: dict[str, Callable[[Change], str]] = {
    "metric": lambda one: METRICS[one.series.metric].label,
    "model": lambda one: one.series.planned.model,
    "engine": lambda one: one.series.planned.case.engine,
    "quantization": lambda one: one.series.planned.case.quantization,
    "device": lambda one: one.series.planned.case.device,
    "shape": lambda one: one.series.planned.case.shape,
}


@dataclass(frozen=True)
class KnownChange:
    """A change with what somebody said about it."""

    change: Change
    mark: Mark | None

    @property
    def matters(self) -> bool:
        return self.change.direction in ("worse", "better")

    @property
    def state(self) -> State:
        one = self.change
        if one.direction in ("small", "described"):
            return one.direction
        if self.mark is not None:
            return self.mark.kind
        if not one.confirmed:
            return "waiting"
        if one.direction == "better":
            return "better"
        return "worse" if one.stands else "recovered"


@dataclass(frozen=True)
class Finding:
    """Changes of one machine's series in one window of runs, worst first."""

    changes: tuple[KnownChange, ...]
    after_run: RunOrigin
    """The last run before all of them …"""
    by_run: RunOrigin
    """… and the first one after."""
    measured: int
    """Series that were measured, or tried, before and after, changed or not."""

    @property
    def state(self) -> State:
        return self.changes[0].state

    @property
    def telling(self) -> tuple[KnownChange, ...]:
        """The changes that matter, or all where none does."""
        return tuple(one for one in self.changes if one.matters) or self.changes

    @property
    def run(self) -> RunOrigin:
        """Where most of them begin, the earliest of several."""
        runs = {one.change.run.run_id: one.change.run for one in self.telling}
        counts = Counter(one.change.run.run_id for one in self.telling)
        return min(runs.values(), key=lambda run: (-counts[run.run_id], _time(run)))

    @property
    def shared(self) -> dict[str, str]:
        """What all of its series have in common, where there are several."""
        if len(self.telling) == 1:
            return {}
        values = {name: {tell(one.change) for one in self.telling} for name, tell in _SHARED.items()}
        return {name: found.pop() for name, found in values.items() if len(found) == 1}

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What changed in the environment within the window."""
        before, after = (Environment(facts=run.facts) for run in (self.after_run, self.by_run))
        return compare_environments(before, after)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, in base units."""
        return {
            "state": self.state,
            "run": self.run.run_id,
            "after": run_to_dict(self.after_run),
            "by": run_to_dict(self.by_run),
            "measured": self.measured,
            "shared": self.shared,
            "environment": [asdict(one) for one in self.differences],
            "changes": [_change_to_dict(one) for one in self.changes],
        }


def findings(histories: Sequence[History], marks: Iterable[Mark], now: datetime) -> list[Finding]:
    """All changes in groups: worst first, and the corroborated ones first among equals."""
    active = [mark for mark in marks if mark.expires_at is None or mark.expires_at > now]
    groups: list[_Group] = []
    for one in sorted((known for history in histories for known in known_changes(history, active)), key=_width):
        fitting = [group for group in groups if group.overlaps(one.change)]
        if fitting:
            min(fitting, key=lambda group: abs(group.changes[0].change.run.at - one.change.run.at)).add(one)
        else:
            groups.append(_Group(one))
    found = [group.finding(histories) for group in groups]
    return sorted(found, key=lambda one: (STATES.index(one.state), -len(one.telling), _rank(one.changes[0])))


def exit_code(found: Iterable[Finding]) -> int:
    """1 when a confirmed worsening stands that nobody acknowledged or muted, 3 when one waits for the next run, else 0."""
    worse = {each.state for one in found for each in one.changes if each.change.direction == "worse"}
    return 1 if "worse" in worse else 3 if "waiting" in worse else 0


class _Group:
    """Changes whose windows have runs in common."""

    def __init__(self, first: KnownChange) -> None:
        self.changes = [first]
        self.after_run, self.by_run = first.change.after_run, first.change.by_run

    def overlaps(self, change: Change) -> bool:
        mine = self.changes[0].change
        if mine.series.machine_id != change.series.machine_id or (mine.found_by == "drift") != (change.found_by == "drift"):
            return False
        return _time(self.after_run) < _time(change.by_run) and _time(change.after_run) < _time(self.by_run)

    def add(self, one: KnownChange) -> None:
        self.changes.append(one)
        if not one.matters:
            return
        self.after_run = max(self.after_run, one.change.after_run, key=_time)
        self.by_run = min(self.by_run, one.change.by_run, key=_time)

    def finding(self, histories: Sequence[History]) -> Finding:
        machine, before, after = self.changes[0].change.series.machine_id, _time(self.after_run), _time(self.by_run)
        spans = [(min(runs), max(runs)) for one in histories if one.series.machine_id == machine for runs in [_runs(one.series)]]
        measured = sum(first <= before and after <= last for first, last in spans)
        return Finding(tuple(sorted(self.changes, key=_rank)), self.after_run, self.by_run, measured)


def known_changes(history: History, marks: Iterable[Mark]) -> list[KnownChange]:
    """Each change with the newest mark that means it: one of the whole series, or one of a run that it is the nearest change to."""
    series = history.series
    places = {run_id: place for place, (_, run_id) in enumerate(sorted(_runs(series)))}
    said: dict[int, Mark] = {}
    for mark in marks:
        if (mark.case_id, mark.metric) != (series.planned.case.case_id, series.metric):
            continue
        if mark.run_id is None:
            said |= dict.fromkeys(range(len(history.changes)), mark)
        elif (place := places.get(mark.run_id)) is not None:
            far = [abs(places[change.run.run_id] - place) for change in history.changes]
            nearest = min(far, default=NEAR + 1)
            said |= {i: mark for i, distance in enumerate(far) if distance == nearest <= NEAR}
    return [KnownChange(change, said.get(i)) for i, change in enumerate(history.changes)]


def _runs(series: MetricSeries) -> list[tuple[datetime, str]]:
    """Those that measured it, and those that failed to."""
    return [*(_time(one.run) for one in series.points), *(_time(one.run) for one in series.failed)]


def _rank(one: KnownChange) -> tuple[int, float]:
    """By state, then by how many margins the change is."""
    return STATES.index(one.state), -abs(one.change.effect) / (one.change.series.margin or 1e-9)


def _width(one: KnownChange) -> tuple[bool, timedelta, tuple[datetime, str]]:
    """Changes that matter first, and of these the surest placed."""
    return not one.matters, one.change.by_run.at - one.change.after_run.at, _time(one.change.by_run)


def _time(run: RunOrigin) -> tuple[datetime, str]:
    return run.at, run.run_id


def run_to_dict(run: RunOrigin) -> dict[str, Any]:
    """A run as plain data for JSON, without its environment."""
    return {name: value for name, value in asdict(run).items() if name != "facts"} | {"at": run.at.isoformat()}


def _change_to_dict(one: KnownChange) -> dict[str, Any]:
    change = one.change
    return {
        "state": one.state,
        "case_id": change.series.planned.case.case_id,
        "label": change.series.planned.label,
        "metric": change.series.metric,
        "unit": change.series.about.unit,
        "found_by": change.found_by,
        "direction": change.direction,
        "confirmed": change.confirmed,
        "stands": change.stands,
        "run": change.run.run_id,
        "after": change.after_run.run_id,
        "by": change.by_run.run_id,
        "level_before": change.before,
        "level_after": change.after,
        "ratio": change.ratio,
        "mark": one.mark and one.mark.model_dump(mode="json"),
    }
