"""A calibration on the terminal: how often unchanged code is called a regression, which steps are found, and margins to paste."""

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from bench.tables import Column, Fitted, table
from results.calibration import CALLED_UNCHANGED, FOUND, HISTORY_STEP, MARGINS, Calibrated
from results.decided import CalibratedMetric, Power
from results.format import moment, number, plain
from results.history_replay import AFTER
from results.metrics import METRICS

HISTORY_WORDS = (
    f"in the history: runs until half of the series have +{100 * HISTORY_STEP:g} % confirmed. Shares: points instead of %."
)


def calibration_table(calibrated: Calibrated) -> RenderableType:
    found = calibrated.found
    trials = f"{calibrated.trials} trials with seed {found.seed}"
    runs = f"{len(calibrated.run_ids)} run{'' if len(calibrated.run_ids) == 1 else 's'}"
    share = _share(calibrated.wrong_comparisons / calibrated.trials)
    closing = [
        *calibrated.notes,
        f"Of whole comparisons of unchanged code {share} have a regression in some row.",
        *(
            f"No margin up to {_amount(one.metric, MARGINS[-1])} is enough for {METRICS[one.metric].label}."
            for one in found.metrics
            if one.proposed_margin is None
        ),
        f"Proposed: called unchanged in {100 * CALLED_UNCHANGED:g} % of replays, and a change of that size is found in {100 * FOUND:g} %. "
        "As rules of a policy:",
    ]
    return Group(
        Text(plain(f"{found.suite}, {runs}, policy {found.policy}, {trials}, {moment(found.at)}")),
        Text(),
        Fitted((_unchanged(calibrated), _stacked(calibrated, _facts))),
        Text(),
        Text(f"Known steps: share found (processes a side until the verdict, on average); {HISTORY_WORDS}"),
        Text(),
        Fitted((_steps(calibrated), _stacked(calibrated, _steps_words))),
        Text(),
        *(Text(plain(line)) for line in closing),
        Text(),
        Text(rules(calibrated)),
    )


def rules(calibrated: Calibrated) -> str:
    """The proposed margins as YAML of a policy file."""
    lines = [
        f"  - {{metrics: [{one.metric}], margin: {_amount(one.metric, one.proposed_margin).replace(' %', '%')}}}"
        for one in calibrated.found.metrics
        if one.proposed_margin is not None
    ]
    return "\n".join(["rules:", *lines]) if lines else "rules: []"


def _unchanged(calibrated: Calibrated) -> RenderableType:
    metrics = calibrated.found.metrics
    return table(
        [
            Column("Metric", [METRICS[one.metric].label for one in metrics]),
            Column("Cases", [str(one.cases) for one in metrics], justify="right"),
            Column("Spread", [_amount(one.metric, one.spread) for one in metrics], justify="right"),
            Column("Between runs", [_between_runs(one) for one in metrics], justify="right"),
            Column("False regressions", [_false(one) for one in metrics], justify="right"),
            Column("Inconclusive", [_share(one.inconclusive / one.trials) for one in metrics], justify="right"),
            Column("Margin", [_amount(one.metric, one.margin) for one in metrics], justify="right"),
            Column("Proposed", [_proposed(one) for one in metrics], justify="right"),
        ]
    )


def _steps(calibrated: Calibrated) -> RenderableType:
    metrics = calibrated.found.metrics
    effects = [power.effect for power in metrics[0].power]
    steps = [
        Column(f"+{100 * effect:g} %", [_power(one.power[place]) for one in metrics], justify="right")
        for place, effect in enumerate(effects)
    ]
    history = Column("In the history", [_history(calibrated, one) for one in metrics], justify="right")
    return table([Column("Metric", [METRICS[one.metric].label for one in metrics]), *steps, history])


def _stacked(calibrated: Calibrated, words: Callable[[Calibrated, CalibratedMetric], str]) -> RenderableType:
    """A heading and a line of its own for each metric, for narrow terminals."""
    lines: list[RenderableType] = []
    for one in calibrated.found.metrics:
        lines += [Text(METRICS[one.metric].label), Padding(Text(words(calibrated, one)), (0, 0, 0, 2), expand=False)]
    return Group(*lines)


def _facts(calibrated: Calibrated, one: CalibratedMetric) -> str:
    between = _between_runs(one)
    runs = "" if between == "–" else f", between runs {between}"
    return (
        f"false regressions {_false(one)}, inconclusive {_share(one.inconclusive / one.trials)}, cases {one.cases}, "
        f"spread {_amount(one.metric, one.spread)}{runs}, margin {_amount(one.metric, one.margin)}, "
        f"proposed {_proposed(one)}"
    )


def _steps_words(calibrated: Calibrated, one: CalibratedMetric) -> str:
    steps = [f"+{100 * power.effect:g} %: {_power(power)}" for power in one.power]
    return ", ".join([*steps, f"in the history {_history(calibrated, one)}"])


def _proposed(one: CalibratedMetric) -> str:
    return "–" if one.proposed_margin is None else _amount(one.metric, one.proposed_margin)


def _between_runs(one: CalibratedMetric) -> str:
    return "–" if one.run_spread is None else _amount(one.metric, one.run_spread)


def _false(one: CalibratedMetric) -> str:
    from scipy.stats import binomtest

    interval = binomtest(one.false_regressions, one.trials).proportion_ci(method="wilson")
    return f"{_share(one.false_regressions / one.trials)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _power(power: Power) -> str:
    return f"{_share(power.found / power.trials)} ({power.mean_processes:.1f})"


def _history(calibrated: Calibrated, one: CalibratedMetric) -> str:
    delay = calibrated.delays[one.metric]
    if delay is None:
        return "–"
    return f"{delay.runs_for_half} runs" if delay.runs_for_half else f"over {AFTER} runs"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _amount(metric: str, value: float) -> str:
    """Relative, or in points: as margins are."""
    shown = number(100 * value, 2)
    if METRICS[metric].unit not in ("score", "share"):
        return f"{shown} %"
    return f"{shown} point{'' if shown == '1' else 's'}"
