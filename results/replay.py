"""Two sides drawn from stored noise, over and over, and judged as `results.gate` judges them, all draws at once.

A draw is one comparison of all rows, with nothing changed or with one row made worse by a known step, at the policy's looks: rows
without a verdict get more processes. `tests/test_calibration.py` holds the verdicts against those of the gate itself, look by
look. What they amount to is `results.calibration`'s.
"""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.gate import RowJudgement, are_related
from results.noise import Array, Noise
from results.policy import Policy
from results.stats import alpha_per_look

INCONCLUSIVE, NO_CHANGE, REGRESSION, IMPROVEMENT = range(4)

Codes = NDArray[np.int_]


@dataclass(frozen=True)
class Draws:
    """Both sides of each row, draw after draw: rows × draws × processes, on the rows' scales, turned so that positive is worse."""

    a: Array
    b: Array


@dataclass(frozen=True)
class Ending:
    """How each row of each draw ended: rows × draws."""

    verdicts: Codes
    looks: Codes
    """At which of the looks, from 0."""


def draw(noises: Sequence[Noise], processes: int, count: int, noise: np.random.Generator) -> Draws:
    """Two sides of so many processes for each row, so many times.

    Rows of the same processes are drawn together: what was slow for one case was slow for the others. Where twice as many processes
    are stored as a side has, none is drawn twice. Else they are drawn with replacement and smoothed, with their covariance kept
    (Silverman & Young, Biometrika 74, 1987): a handful of values, drawn as they are, would repeat and spread too little.
    Each side is of a run of its own where it is known how runs differ.
    """
    a, b = (np.empty((len(noises), count, processes)) for _ in range(2))
    together: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
    for place, one in enumerate(noises):
        together[one.units].append(place)
    for places in together.values():
        residuals = np.array([noises[place].residuals for place in places])
        drawn = draw_processes(residuals, 2 * processes, count, noise)
        a[places], b[places] = drawn[..., :processes], drawn[..., processes:]
        if runs := len(noises[places[0]].levels):
            pairs = noise.permuted(np.tile(np.arange(runs), (count, 1)), axis=1)[:, :2]
            levels = np.array([noises[place].levels for place in places])
            a[places] += levels[:, pairs[:, 0], None]
            b[places] += levels[:, pairs[:, 1], None]
    return Draws(a, b)


def is_resampled(one: Noise, processes: int) -> bool:
    """Whether sides of so many processes hold stored ones more than once."""
    return len(one.residuals) < 2 * processes


def draw_processes(residuals: Array, size: int, count: int, noise: np.random.Generator) -> Array:
    """So many processes of each draw, from rows × stored ones: rows × draws × size, without what their runs have in common."""
    stored = residuals.shape[1]
    if stored >= size:
        return residuals[:, noise.permuted(np.tile(np.arange(stored), (count, 1)), axis=1)[:, :size]]
    width = (4 / (3 * stored)) ** 0.2  # Silverman's rule, of standard deviations
    kernels = noise.standard_normal((count, size, stored)) @ residuals.T / np.sqrt(stored)
    drawn = residuals[:, noise.integers(stored, size=(count, size))]
    smoothed: Array = (drawn + width * kernels.transpose(2, 0, 1)) / np.sqrt(1 + width**2)
    return smoothed


class Replay:
    """Drawn sides, tested at each look of a policy."""

    def __init__(self, noises: Sequence[Noise], draws: Draws, policy: Policy) -> None:
        self.noises, self.policy = noises, policy
        self.alpha = alpha_per_look(policy.looks, 1 - policy.confidence)
        shape = (len(policy.looks), *draws.a.shape[:2])
        self.effects, self.halves, self.errors, self.freedoms, self.p_values = (np.empty(shape) for _ in range(5))
        for look, processes in enumerate(policy.looks):
            for row in range(len(noises)):
                place = look, row
                self.effects[place], self.halves[place], self.errors[place], self.freedoms[place], self.p_values[place] = _welch(
                    draws.a[row, :, :processes], draws.b[row, :, :processes], self.alpha
                )
        self.related = _related([one.judged for one in noises])

    def judged(self, margins: Array, target: Codes | None = None, step: float = 0.0) -> Ending:
        """
        Args:
            margins: of each row, relative or in points.
            target: the row of each draw that is made worse, if any …
            step: … by so much on its scale.
        """
        rows, count = self.effects.shape[1:]
        within, least = self._thresholds(margins)
        verdicts, looks = np.full((rows, count), INCONCLUSIVE), np.zeros((rows, count), dtype=np.int_)
        effects, halves, p_values = (np.empty((rows, count)) for _ in range(3))
        for look in range(len(self.policy.looks)):
            going = (verdicts == INCONCLUSIVE).any(axis=0).nonzero()[0]
            if not len(going):
                break
            undecided = verdicts[:, going] == INCONCLUSIVE
            new, new_p = self.effects[look][:, going], self.p_values[look][:, going]
            if target is not None:
                here, places = (target[going], np.arange(len(going))), (target[going], going)
                new[here] += step
                new_p[here] = _p_value(new[here], self.errors[look][places], self.freedoms[look][places])
            looks[:, going] = np.where(undecided, look, looks[:, going])
            effects[:, going] = np.where(undecided, new, effects[:, going])
            halves[:, going] = np.where(undecided, self.halves[look][:, going], halves[:, going])
            p_values[:, going] = np.where(undecided, new_p, p_values[:, going])
            verdicts[:, going] = self._verdicts(effects[:, going], halves[:, going], p_values[:, going], within, least, look)
        return Ending(verdicts, looks)

    def _verdicts(self, effects: Array, halves: Array, p_values: Array, within: Array, least: Array, look: int) -> Codes:
        """`results.gate.verdict_on` of all rows, and what a lone regression is worth."""
        low, high, sure = effects - halves, effects + halves, _sure(p_values, self.alpha)
        rules = [
            (-within <= low) & (high <= within),
            sure & (low > 0) & (effects >= least),
            sure & (high < 0) & (effects <= -least),
        ]
        verdicts = np.select(rules, [NO_CHANGE, REGRESSION, IMPROVEMENT], INCONCLUSIVE)
        if self.policy.lone_regressions == "confirm" and look + 1 < len(self.policy.looks):
            worse = verdicts == REGRESSION
            verdicts[worse & (self.related @ worse == 0) & ~np.isnan(p_values)] = INCONCLUSIVE
        return verdicts

    def _thresholds(self, margins: Array) -> tuple[Array, Array]:
        """What does not matter, and the smallest estimate that counts, as columns. Floors are taken beside the stored median."""
        pairs = []
        for one, margin in zip(self.noises, margins.tolist(), strict=True):
            floor = one.row.scaled_floor(one.judged.floor)
            pairs.append((max(one.row.scaled(margin), floor), max(one.row.scaled(margin / 2), floor)))
        within, least = np.array(pairs).T
        return within[:, None], least[:, None]


def _welch(a: Array, b: Array, alpha: float) -> tuple[Array, Array, Array, Array, Array]:
    """B against A of each draw: the effect, half its interval, its standard error, degrees of freedom, and p; where nothing spreads
    the error is 0 and p is not a number."""
    from scipy.special import stdtrit
    from scipy.stats import ttest_ind

    effects = b.mean(axis=1) - a.mean(axis=1)
    steady = (np.ptp(a, axis=1) == 0) & (np.ptp(b, axis=1) == 0)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one side may be constant, which SciPy takes for a loss of precision
        found = ttest_ind(b, a, axis=1, equal_var=False)
        interval = found.confidence_interval(1 - alpha)
        halves = np.where(steady, 0.0, (interval.high - interval.low) / 2)
        freedoms = np.where(steady, 1.0, found.df)
    errors = halves / stdtrit(freedoms, 1 - alpha / 2)
    return effects, halves, errors, freedoms, _p_value(effects, errors, freedoms)


def _p_value(effects: Array, errors: Array, freedoms: Array) -> Array:
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where(errors > 0, 2 * stdtr(freedoms, -np.abs(effects) / errors), np.nan)
    return found


def _sure(p_values: Array, alpha: float) -> NDArray[np.bool_]:
    """Where no change is excluded after the correction over all rows of a draw; rows without doubt are no part of it."""
    from scipy.stats import false_discovery_control

    sure = np.isnan(p_values)
    patterns, which = sure[:, :1].copy(), np.zeros(sure.shape[1], dtype=np.int_)
    if (sure != patterns).any():
        patterns, which = np.unique(sure, axis=1, return_inverse=True)
    for place, pattern in enumerate(patterns.T):
        if not pattern.all():
            cells = np.ix_(~pattern, which.reshape(-1) == place)
            sure[cells] = false_discovery_control(p_values[cells], axis=0) <= alpha
    return sure


def _related(rows: Sequence[RowJudgement]) -> Codes:
    """Which rows corroborate one another, as 0 and 1."""
    related = [[int(a is not b and are_related(a.row, b.row)) for b in rows] for a in rows]
    return np.array(related).reshape(len(rows), len(rows))
