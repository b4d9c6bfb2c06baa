"""What of a history people mean: cases by words of their labels, the pinned release, the changes that begin at a run, a date."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.baselines import known, standing
from results.cases import PlannedCase
from results.decided import Baseline, Mark
from results.errors import NotComparableError, UsageError
from results.format import plain
from results.history import History
from results.history_changes import history_of
from results.history_groups import Finding, findings
from results.history_reading import JUDGED, read_history
from results.store import Store

RELEASE = "release"
"""The baseline that the drift guard holds the newest level against unless another one is named."""
_AHEAD = re.compile(r"([1-9]\d{0,3})\s*([hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True)
class Asked:
    """Which histories are asked for."""

    words: Sequence[str] = ()
    """A case id or its beginning, or words of a label; none: all cases."""
    metrics: Sequence[str] = ()
    """None: those that are judged."""
    branch: str | None = None
    dirty: bool = False
    release: str | None = None
    """A baseline; `None`: the one called `release`, if there is one."""


@dataclass(frozen=True)
class Found:
    """The histories that were asked for, and what they say together."""

    histories: tuple[History, ...]
    findings: tuple[Finding, ...]
    release: Baseline | None
    """Of the drift guard; `None`: nothing is pinned."""


def find(store: Store, asked: Asked, now: datetime) -> Found:
    """Read and judge what is asked for.

    Raises:
        UsageError: no case, several, or no such metric or branch; nothing was measured; or the release follows something instead of
            being pinned.
        NotComparableError: no baseline has the release's name.
    """
    cases = None if not asked.words else {choose_case(store.planned_cases(), asked.words).case.case_id}
    release = _release(store.baselines(), asked.release)
    series = read_history(
        store.engine,
        cases=cases,
        metrics=asked.metrics or JUDGED,
        branch=asked.branch,
        dirty=asked.dirty,
        release=release.run_ids if release else (),
    )
    if not series:
        raise UsageError("No finished run has measured that yet: `bench show` lists the runs, `bench run SUITE` makes one.")
    histories = tuple(history_of(one) for one in series)
    return Found(histories, tuple(findings(histories, store.marks(), now)), release)


def choose_case(planned: Iterable[PlannedCase], words: Sequence[str]) -> PlannedCase:
    """The case with this id or beginning of an id, or the one whose label has all of the words.

    Raises:
        UsageError: none has, or several have.
    """
    cases = list(planned)
    wanted = " ".join(words).casefold().split()
    found = [one for one in cases if len(wanted) == 1 and one.case.case_id.startswith(wanted[0])]
    if not found:
        found = [one for one in cases if set(wanted) <= set(one.label.casefold().split())]
        whole = [one for one in found if wanted == one.label.casefold().split()]
        found = whole if len(whole) == 1 else found
    if len(found) == 1:
        return found[0]
    listed = "".join(f"\n  {one.case.case_id}  {one.label}" for one in found or cases)
    asked = " ".join(words)
    if not cases:
        raise UsageError(f"No case is called {asked!r}: the store holds no runs yet.")
    if found:
        raise UsageError(plain(f"{asked!r} means several cases; give an id or more words of one:{listed}"))
    raise UsageError(plain(f"No case has {asked!r} in its label; there are:{listed}"))


def marks_at(found: Found, run_id: str, said: dict[str, Any]) -> list[Mark]:
    """One mark for each change that begins at a run, and for all others of a finding that does.

    Args:
        said: the marks' kind, author, reason and time.

    Raises:
        UsageError: no change for worse or better begins there.
    """
    known = [(one.run.run_id, each.change) for one in found.findings for each in one.changes if each.matters]
    meant = [change for begin, change in known if run_id in (begin, change.run.run_id)]
    if not meant:
        begins = ", ".join(dict.fromkeys(begin for begin, _ in known))
        raise UsageError(f"No change that counts begins at {run_id}: {f'they begin at {begins}' if begins else 'there is none'}.")
    return [
        Mark(**said, case_id=one.series.planned.case.case_id, metric=one.series.metric, run_id=one.run.run_id) for one in meant
    ]


def mutings(found: Found, said: dict[str, Any]) -> list[Mark]:
    """One mark for each series that was found."""
    meant = dict.fromkeys((one.series.planned.case.case_id, one.series.metric) for one in found.histories)
    return [Mark(**said, case_id=case_id, metric=metric) for case_id, metric in meant]


def parse_until(text: str, now: datetime) -> datetime:
    """A time ahead: `12h`, `30d`, `2w`, or a date such as `2026-12-24` (its end), in UTC unless it says otherwise.

    Raises:
        UsageError: it is none, or past.
    """
    if ahead := _AHEAD.fullmatch(text):
        return now + int(ahead[1]) * _UNITS[ahead[2]]
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        at += timedelta(days=len(text) == len("2026-12-24"))
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time ahead: give a span such as 12h, 30d or 2w, or a date such as 2026-12-24."
        ) from None
    if at <= now:
        raise UsageError(f"{text} is past: give a time that is ahead.")
    return at


def _release(moves: Sequence[Baseline], name: str | None) -> Baseline | None:
    baselines = standing(moves)
    if name is None and (RELEASE not in baselines or not baselines[RELEASE].run_ids):
        return None
    if name is not None and name not in baselines:
        raise NotComparableError(f"No baseline is called {name!r}: pin one with `bench baseline set {name} RUN`.")
    found = known(name or RELEASE, baselines)
    if not found.run_ids:
        raise UsageError(f"Baseline {found.name!r} follows {found.reference}: the drift guard needs one that is pinned to runs.")
    return found
