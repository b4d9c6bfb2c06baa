"""What the reader of a calibration must know: how sides were drawn, and which noise they hold."""

from collections.abc import Sequence

from results.format import number
from results.metrics import METRICS
from results.noise import LEAST_RUNS, Noise
from results.policy import Policy
from results.replay import is_resampled


def notes_on(noises: Sequence[Noise], policy: Policy) -> list[str]:
    """One sentence each."""
    most = max(noises, key=lambda one: len(one.units))
    runs = len({run_id for run_id, _ in most.units})
    stored = f"{len(most.units)} processes of {runs} run{'' if runs == 1 else 's'}"
    if any(len(one.levels) for one in noises):
        notes = [f"Sides are drawn from {stored}, each from a run of its own."]
    else:
        notes = [
            f"Sides are drawn from {stored} as if all were of one run: how runs differ takes {LEAST_RUNS} runs of two processes or more, "
            "and is not in these figures."
        ]
    if any(is_resampled(one, policy.looks[-1]) for one in noises):
        notes.append(
            f"Two sides of up to {policy.looks[-1]} processes are more than some cases have stored: theirs are drawn with replacement and "
            "smoothed."
        )
    return [*notes, *_runs_that_differ(noises, policy), *_noisiest(noises)]


def _runs_that_differ(noises: Sequence[Noise], policy: Policy) -> list[str]:
    """Where what runs have of their own is more than the chance in a side's mean at the first look."""
    bad = [one for one in noises if one.runs_differ and (one.run_spread or 0.0) ** 2 > one.spread**2 / policy.looks[0]]
    if not bad:
        return []
    worst = max(bad, key=lambda one: one.run_spread or 0.0)
    return [
        f"Runs differ by more than their processes explain in {len(bad)} of {len(noises)} rows, most in {METRICS[worst.row.metric].label} of "
        f"{worst.row.planned.label} ({_spread(worst, worst.run_spread or 0.0)} between runs, {_spread(worst, worst.spread)} between processes): "
        "intervals over processes are too narrow for runs of two days. Measure both sides in turn, with `bench gate --until-decided`, or "
        "judge by the proposed margins."
    ]


def _noisiest(noises: Sequence[Noise]) -> list[str]:
    """Cases that spread more than twice as much as the middle one of their metric, and enough to matter beside the margin."""
    told = []
    for name in dict.fromkeys(one.row.metric for one in noises):
        mine = sorted((one for one in noises if one.row.metric == name), key=lambda one: one.spread)
        least = mine[-1].row.scaled(mine[-1].judged.margin or 0.0) / 4
        if mine[-1].spread > max(2 * mine[(len(mine) - 1) // 2].spread, least):
            told.append(
                f"{METRICS[name].label} spreads most in {mine[-1].row.planned.label} ({_spread(mine[-1], mine[-1].spread)}; "
                f"{_spread(mine[-1], mine[(len(mine) - 1) // 2].spread)} in the middle case): a rule of its own may suit it."
            )
    return told


def _spread(noise: Noise, value: float) -> str:
    return f"{number(100 * value, 2)} {'points' if noise.row.in_points else '%'}"
