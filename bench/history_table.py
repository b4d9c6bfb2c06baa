"""What a history says, on the terminal: the findings over all series, how many are quiet, and what people said about them.

Single series with their points are `bench.history_points`'s, plain data for JSON `bench.history_json`'s.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from bench.history_choice import RELEASE, Found
from bench.tables import Column, Fitted, case_label, table
from results.comparison import Difference
from results.decided import Mark
from results.format import moment, percent, plain, points, quantity
from results.history import Change, History, MetricSeries, RunOrigin
from results.history_groups import STATES, Finding, KnownChange, exit_code

STYLES: dict[str, str] = {
    "worse": "bold red", "waiting": "yellow", "better": "green", "acknowledged": "bright_black", "muted": "bright_black",
    "small": "bright_black", "described": "bright_black",
}  # fmt: skip

CLOSING = {
    0: "No worsening stands that nobody acknowledged.",
    1: "Worse: mend it, or accept it with `bench history acknowledge --at RUN --reason TEXT`.",
    3: "Waiting: the next run confirms it or not.",
}


def overview(found: Found) -> RenderableType:
    """The findings, worst first, how many series are quiet or too short, and what follows."""
    parts: list[RenderableType] = [Text(plain(_extent(found.histories))), Text()]
    if telling := [one for one in found.findings if one.telling[0].matters]:
        parts += [findings_table(telling, found.histories), Text()]
    return Group(*parts, *conclusion(found))


def conclusion(found: Found) -> list[RenderableType]:
    """How many series are quiet or too short, the drift guard, and one sentence on what to do."""
    code = exit_code(found.findings)
    lines = [Text(plain(line)) for line in _counts(found)]
    return [*lines, Text(), Text(CLOSING[code], style={1: "bold red", 3: "yellow"}.get(code, ""))]


def findings_table(found: Sequence[Finding], histories: Sequence[History]) -> RenderableType:
    """A row per finding with a note below, which names the machine where the histories are of several."""
    several = len({one.series.machine_id for one in histories}) > 1
    notes = [_note(one, several) for one in found]
    worst = [one.changes[0].change for one in found]
    wide = table(
        [
            Column("", [str(number) for number in range(1, len(found) + 1)], justify="right"),
            Column("State", [state_text(one.state) for one in found]),
            Column("Change", [change_words(change) for change in worst], justify="right"),
            Column("Metric", [change.series.about.label for change in worst]),
            Column("Case", [case_label(change.series.planned) for change in worst], wraps=24),
            Column("Series", [f"{len(one.telling)} of {one.measured}" for one in found], justify="right"),
            Column("At run", [one.run.run_id for one in found]),
            Column("Commits", [_commits(one) for one in found]),
        ]
    )
    stacked = Group(*(_stacked(number, one) for number, one in enumerate(found, 1)))
    lines = [Text(plain(f"{number} {note}")) for number, note in enumerate(notes, 1) if note]
    return Group(Fitted((wide, stacked)), *lines)


def _stacked(number: int, one: Finding) -> RenderableType:
    change = one.changes[0].change
    title = Text.assemble(
        f"{number} ",
        state_text(one.state),
        plain(f"  {change_words(change)} {change.series.about.label}  {case_label(change.series.planned)}"),
    )
    facts = f"{len(one.telling)} of {one.measured} series, at {one.run.run_id}, commits {_commits(one)}"
    return Group(title, Padding(Text(plain(facts)), (0, 0, 0, 2), expand=False))


def change_words(change: Change) -> str:
    """A change with its sign: in percent, points, or the amount where the least difference counts or nothing was there."""
    series = change.series
    if change.after is None:
        return f"fails ({next(one.kind for one in series.failed if one.run == change.run)})"
    if series.in_points:
        return points(change.after - change.before)
    if series.repeats or change.ratio is None:
        amount = change.after - change.before
        return f"{'+' if amount >= 0 else '-'}{quantity(abs(amount), series.about.unit)}"
    return percent(change.ratio)


def _note(one: Finding, several_machines: bool) -> str:
    """Where, what its series share, what else changed then, and what somebody said."""
    change = one.changes[0].change
    parts = [f"after {one.after_run.run_id}" + ("" if one.by_run == one.run else f", by {one.by_run.run_id}")]
    if several_machines:
        parts.append(f"on {machine_text(one.run)}")
    if change.found_by == "drift":
        parts.append("a slow drift away from the release, which no single step shows")
    if not change.confirmed:
        parts.append("the newest run alone: the next one confirms it or not")
    if one.shared:
        parts.append(f"all of them: {', '.join(one.shared.values())}")
    parts += [_difference(each) for each in one.differences]
    clean = not (one.after_run.dirty or one.by_run.dirty)
    if clean and one.after_run.commit and one.after_run.commit == one.by_run.commit:
        parts.append("one commit: what changed is not the code")
    said = dict.fromkeys(_said(each.mark) for each in one.changes if each.mark and each.state == each.mark.kind)
    return "; ".join([*parts, *said])


def _said(mark: Mark) -> str:
    until = f" until {moment(mark.expires_at)}" if mark.expires_at else ""
    return f"{mark.kind}{until} by {mark.author}: {mark.reason}"


def _difference(one: Difference) -> str:
    return f"{one.key} {'unknown' if one.a is None else one.a} → {'unknown' if one.b is None else one.b}"


def _commits(one: Finding) -> str:
    before, after = (commit_text(run) or "unknown" for run in (one.after_run, one.by_run))
    return before if before == after else f"{before}..{after}"


def commit_text(run: RunOrigin) -> str:
    """The beginning of its commit, with a plus where the working tree was changed."""
    return (run.commit or "")[:8] + ("+" if run.dirty else "")


def machine_text(run: RunOrigin) -> str:
    """What a machine is called, and its id: two may have the same processors."""
    names = [str(run.facts[key]) for key in ("cpu_model", "gpus") if run.facts.get(key)]
    return f"{', '.join(names)} {run.machine_id}".strip()


def _extent(histories: Sequence[History]) -> str:
    runs = sorted({one.run.run_id: one.run for each in histories for one in each.series.points}.values(), key=lambda run: run.at)
    cases = {each.series.planned.case.case_id for each in histories}
    machines = {each.series.machine_id for each in histories}
    branches = sorted({run.branch for run in runs if run.branch})
    several = f"; of branches {', '.join(branches)}: --branch shows one" if len(branches) > 1 else ""
    where = f" on {len(machines)} machines" if len(machines) > 1 else ""
    return f"{counted(len(runs), 'run')} of {counted(len(cases), 'case')}{where}, {moment(runs[0].at)} to {moment(runs[-1].at)}{several}"


def _counts(found: Found) -> list[str]:
    """What is not in the table: quiet series, short ones, and the drift guard."""
    states = changes_by_series(found.findings)
    known = Counter(series_state(one, states.get(series_key(one.series), [])) for one in found.histories)
    short = [one.needed for one in found.histories if one.needed]
    small = known["small"] + known["described"]
    lines = [f"Quiet: {known['quiet']} series."] if known["quiet"] else []
    if small:
        lines.append(f"Changes within the margin, or of metrics that are never judged: {small} series.")
    if short:
        more = f"{min(short)}" if min(short) == max(short) else f"{min(short)} to {max(short)}"
        lines.append(f"Too short to say: {len(short)} series, which need {more} more run{'' if max(short) == 1 else 's'}.")
    if found.release is None:
        lines.append(f"No drift guard: pin a release with `bench baseline set {RELEASE} RUN`.")
    else:
        guarded = sum(one.guarded for one in found.histories)
        lines.append(
            f"Drift guard: {guarded} of {len(found.histories)} series are held against {found.release.name} "
            f"({', '.join(found.release.run_ids)})."
        )
    return lines


def marks_table(said: Sequence[Mark], labels: Mapping[str, str], now: datetime) -> RenderableType:
    """A row per mark; expired ones count no more."""
    kinds = [one.kind + (", expired" if one.expires_at is not None and one.expires_at <= now else "") for one in said]
    cases = [labels.get(one.case_id, one.case_id) for one in said]
    wide = table(
        [
            Column("Kind", kinds),
            Column("Metric", [one.metric for one in said]),
            Column("Case", cases, wraps=20),
            Column("At run", [one.run_id or "" for one in said]),
            Column("Until", [moment(one.expires_at) if one.expires_at else "" for one in said]),
            Column("By", [one.author for one in said], wraps=16),
            Column("When", [moment(one.at) for one in said]),
            Column("Reason", [one.reason for one in said], wraps=16),
        ]
    )
    stacked = [
        Group(
            Text(plain(f"{kind}  {one.metric}  {case}")),
            Padding(Text(plain("; ".join(_facts(one)))), (0, 0, 0, 2), expand=False),
        )
        for kind, one, case in zip(kinds, said, cases, strict=True)
    ]
    return Fitted((wide, Group(*stacked)))


def _facts(mark: Mark) -> list[str]:
    """Where and until when, who and when, and why."""
    where = f"at {mark.run_id}" if mark.run_id else ""
    until = f"until {moment(mark.expires_at)}" if mark.expires_at else ""
    return [part for part in (where, until, f"by {mark.author}, {moment(mark.at)}: {mark.reason}") if part]


def series_state(history: History, known: Sequence[KnownChange]) -> str:
    """The worst state of its changes; else `too short` or `quiet`."""
    if known:
        return min((each.state for each in known), key=STATES.index)
    return "too short" if history.needed else "quiet"


def changes_by_series(found: Iterable[Finding]) -> dict[tuple[str, str, str], list[KnownChange]]:
    """The changes of each series, worst first."""
    states: dict[tuple[str, str, str], list[KnownChange]] = {}
    for one in found:
        for each in one.changes:
            states.setdefault(series_key(each.change.series), []).append(each)
    return states


def series_key(series: MetricSeries) -> tuple[str, str, str]:
    return series.planned.case.case_id, series.metric, series.machine_id


def state_text(state: str) -> Text:
    return Text(state, style=STYLES.get(state, ""))


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
