"""`bench gate --until-decided`: more processes of the undecided cases only, until every case has its verdict or a limit is reached.

Both sides are measured in turn where both can run here, so that what happens to the machine happens to both. Which verdict a
look gives is `results.gate`'s, what a later look keeps of it `results.looks`', and how a side is measured `bench.places`'.
"""

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bench.interrupts import Interrupts
from bench.places import Bench, Place, PlaceError
from bench.references import meaning, parse_reference
from bench.schedule import pending, rounds, with_processes
from bench.sides import sides
from bench.suite import absolute, anchor, find_suite, load_suite, parse_settings, suite_names
from results.cases import PlannedCase
from results.compare import compare, compare_environments
from results.database import parse_url, sqlite_path
from results.errors import NotComparableError, UsageError
from results.gate import Judgement, gate
from results.looks import with_baseline_told, with_decided_rows
from results.policy import Policy
from results.records import Report
from results.sides import Side
from results.store import Store
from results.stored_runs import stored_runs
from results.summary import FAULTS

PATHS = ("model", "draft", "adapter")
"""Settings that may be paths."""
SAME_PACKAGES = (
    "A and B have one interpreter, the same variables and servers: what is imported is the same on both sides, unless a variable such as "
    "PYTHONPATH names a folder relative to each of them."
)


@dataclass(frozen=True)
class Decided:
    a: Side
    b: Side
    judgement: Judgement


class Measures(Protocol):
    """Whoever measures in a place, one process of each case at a time; `bench.places.Bench` does it in child processes."""

    def start(self, place: Place, suite: str, settings: tuple[str, ...], seed: int, paired_with: str | None) -> str: ...

    def extend(self, place: Place, run_id: str, processes: int, case_ids: tuple[str, ...]) -> None: ...

    def report(self, run_id: str) -> Report: ...


def until_decided(
    suite: str, settings: tuple[str, ...], b: Place, policy: Policy, store_url: str, *, a: Place | None = None,
    against: str | None = None, most: int | None = None, allow: tuple[str, ...] = (),
    told: Callable[[Judgement], None] = lambda _: None, heard: Callable[[str], None] = lambda _: None,
    measures: Measures | None = None,
) -> Decided:  # fmt: skip
    """Measure a suite on one side or both until it is decided.

    Args:
        settings: `axis=value` overrides, as of `bench run --set`.
        a: where the baseline is measured, in turn with b; `None`: it is not, and `against` is stored.
        against: the stored baseline, a reference of `bench.sides`.
        most: processes a side at the most; `None`: the policy's last look.
        allow: hard facts of the environment that may differ.
        told: called after every look.
        heard: told which process begins, and what is said on the way.
        measures: who measures; `None`: child processes.

    Raises:
        UsageError: neither or both of `a` and `against`, or what `bench run` refuses.
        NotComparableError: no baseline, other cases, or hard facts differ.
        PlaceError: nothing at all could be measured on a side.
        KeyboardInterrupt: a signal came; what was measured stays in the store.
    """
    if (a is None) == (against is None):
        raise UsageError("B is measured in turn with A, or against a stored baseline: give --a or --against, and one of the two.")
    looks = looks_up_to(policy, most)
    suite, settings, servers = from_anywhere(suite, settings)
    url = absolute_url(store_url)
    places = {"a": a, "b": b} if a else {"b": b}
    places = {name: replace(place, servers={**servers, **place.servers}) for name, place in places.items()}
    if a and replace(places["a"], folder=None) == replace(places["b"], folder=None):
        heard(SAME_PACKAGES)
    turns = _Turns(places, measures or Bench(url, heard), heard)
    allowed = (*allow, *policy.allow_env_diff)
    stored = stored_baseline(against, url) if against else None
    with Interrupts().listening(), turns.told_when_interrupted():
        turns.start(suite, settings)
        if against and stored is None:
            stored = sides(against, turns.run_ids["b"], url)[0]
        check_comparable((stored or turns.side("a")).report, turns.side("b").report, allowed, same_cases=against is None)
        turns.up_to(looks[0])
        decided = _judged(stored or turns.side("a"), turns.side("b"), policy, allowed, look=1)
        told(decided.judgement)
        for look, processes in enumerate(looks[1:], 2):
            if not turns.up_to(processes, decided.judgement.undecided):
                break
            decided = _judged(stored or turns.side("a"), turns.side("b"), policy, allowed, look, decided.judgement)
            told(decided.judgement)
    return decided


def stored_baseline(against: str, store_url: str) -> Side | None:
    """What a reference means before B is measured: `latest` is never B itself. `None`: it means something beside B's run only.

    Raises:
        UsageError, NotComparableError, StoreError: nothing answers to it.
    """
    reference = parse_reference(against)
    if reference.kind != "file":
        with Store.reading(store_url) as store:
            if meaning(reference, stored_runs(store.engine), store.baselines()).is_relative:
                return None
    return sides(against, against, store_url)[0]


def _judged(a: Side, b: Side, policy: Policy, allow: Collection[str], look: int, earlier: Judgement | None = None) -> Decided:
    comparison = compare(a.report, b.report, allow, (a.name, b.name), policy.asked)
    judgement = gate(with_decided_rows(comparison, earlier), policy, look=look)
    return Decided(a, b, with_baseline_told(judgement, a.report, b.report))


def looks_up_to(policy: Policy, most: int | None) -> tuple[int, ...]:
    """The looks that need no more processes a side than that. There are no others, as the policy's alpha is spent over its own.

    Raises:
        UsageError: there is none, or more processes are asked for than the policy ever looks at.
    """
    looks = policy.looks
    if most is not None and not looks[0] <= most <= looks[-1]:
        raise UsageError(
            f"--most {most}: policy {policy.name} looks at {', '.join(map(str, looks))} processes a side: take one of these."
        )
    return tuple(processes for processes in looks if most is None or processes <= most)


def from_anywhere(suite: str, settings: tuple[str, ...]) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """A suite and its settings as they mean the same from every folder, and the URLs of its servers, which no store keeps.

    Raises:
        UsageError: no such suite, something in it is wrong, it is a serving sweep, or a setting says how many processes.
    """
    here = Path.cwd()
    path = find_suite(suite)
    given = parse_settings(settings)
    if "processes" in given:
        raise UsageError(
            "--set processes: the policy's looks say how many are measured: leave it out, and end earlier with --most N."
        )
    anchored = anchor(load_suite(path, given), path.parent)
    if anchored.serving:
        raise UsageError(
            f"Suite {anchored.name} is a serving sweep, which chooses its loads by what it measures: give one with fixed loads."
        )
    pairs = [setting.partition("=") for setting in settings]
    settings = tuple(f"{key}={absolute(value, here) if key.strip() in PATHS else value}" for key, _, value in pairs)
    urls = {name: spec.url for name, spec in anchored.servers.items() if spec.url}
    return (suite if suite in suite_names() else str(path.absolute())), settings, urls


def absolute_url(store_url: str) -> str:
    """The store's URL as it means the same from every folder.

    Raises:
        StoreError: it is none.
    """
    parsed = parse_url(store_url)
    path = sqlite_path(parsed)
    return (parsed.set(database=str(path.absolute())) if path else parsed).render_as_string(hide_password=False)


def check_comparable(a: Report, b: Report, allow: Collection[str], *, same_cases: bool) -> None:
    """After one process a side, before more are measured.

    Raises:
        NotComparableError: hard facts differ, or the suite means other cases there.
        PlaceError: nothing was measured on a side, and not because its cases failed by themselves.
    """
    compare_environments(a.run.environment, b.run.environment, allow)
    for side, report in (("A", a), ("B", b)):
        faults = side == "B" and any(one.kind in FAULTS for one in report.failures)  # new ones are the gate's to judge
        if not report.measurements and not faults:
            why = report.failures[0].message if report.failures else "it has no result."
            raise PlaceError(f"{side}: no case could be measured in run {report.run.run_id}: {why}")
    plans = [{one.case.case_id: one.label for one in report.run.planned} for report in (a, b)]
    if same_cases and (odd := plans[0].keys() ^ plans[1].keys()):
        named = ", ".join(sorted({label for plan in plans for case_id, label in plan.items() if case_id in odd})[:3])
        raise NotComparableError(
            f"The suite means other cases on the two sides ({named}): give both the same weights, threads and prompts."
        )


class _Turns:
    """Both sides, or B alone, measured process by process: A1 B1 B2 A2 A3 B3 …, so that a drift of the machine hits both alike.

    Attributes:
        run_ids: of the sides, `a` and `b`.
    """

    def __init__(self, places: Mapping[str, Place], measures: Measures, heard: Callable[[str], None]) -> None:
        self._places, self._measures, self._heard = places, measures, heard
        self._processes = 0
        self.run_ids: dict[str, str] = {}

    @contextmanager
    def told_when_interrupted(self) -> Iterator[None]:
        """An interrupt in here is told with the runs that hold what was measured."""
        try:
            yield
        except KeyboardInterrupt:
            kept = ", ".join(f"{side.upper()} in run {run_id}" for side, run_id in self.run_ids.items())
            if kept:
                self._heard(f"Interrupted. What was measured is stored ({kept}): `bench gate RUN --against RUN` judges it.")
            raise

    def start(self, suite: str, settings: tuple[str, ...]) -> None:
        """The first process of each case."""
        seed = secrets.randbits(30)
        for side, place in self._places.items():
            self._heard(f"{side.upper()}: process 1")
            self.run_ids[side] = self._measures.start(place, suite, settings, seed, self.run_ids.get("a"))
            if any(one.case.target for one in self._measures.report(self.run_ids[side]).run.planned):
                seed += 1  # a server that both sides ask must not know the prompts of the second one already
        self._processes = 1

    def up_to(self, processes: int, undecided: Collection[PlannedCase] | None = None) -> bool:
        """Measure these cases, or all, in so many processes; whether there was anything to measure."""
        went_on = False
        for process in range(self._processes + 1, processes + 1):
            case_ids = self._open(process, undecided)
            if not case_ids:
                break
            for side in self._places if process % 2 else reversed(list(self._places)):
                count = f"{len(case_ids)} case{'s' if len(case_ids) > 1 else ''}"
                self._heard(f"{side.upper()}: process {process} of {processes}, {count}")
                self._measures.extend(self._places[side], self.run_ids[side], process, case_ids)
            went_on, self._processes = True, process
        return went_on

    def side(self, name: str) -> Side:
        """A side as it is now."""
        run_id = self.run_ids[name]
        return Side(run_id, self._measures.report(run_id), (run_id,))

    def _open(self, process: int, cases: Collection[PlannedCase] | None) -> tuple[str, ...]:
        """Ids of the cases that can be measured in one more process on every side; not those that gave up."""
        found: list[set[str]] = []
        for side in self._places:
            report = self._measures.report(self.run_ids[side])
            ids = {one.case.case_id for one in (report.run.planned if cases is None else cases)}
            batches = rounds(with_processes(report.run.planned, process, ids), report.run.seed) if ids else []
            left = pending(batches, report.measurements, report.failures)
            found.append({one.case.case_id for batch in left if batch.process == process - 1 for one in batch.cases} & ids)
        return tuple(sorted(set.intersection(*found)))
