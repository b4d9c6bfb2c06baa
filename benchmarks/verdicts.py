"""What the gate's verdicts are worth on simulated processes: how often it errs without a change, and how often it finds one.

    python benchmarks/verdicts.py [--rounds 4000] [--seed 1] [--blocks]

Each process is 30 iterations that vary by 4 % and depend on the one before (AR(1) with 0.3); 3 % of them are spikes of three times
the duration; the processes differ by 2 %. The two sides of a row are judged by the rule of `results.gate` with the default
policy, at one look or at its looks: then only undecided rows get more processes. With --blocks, process i of both sides stood
side by side, and a share of what makes processes differ is common to both.
"""

import argparse
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, pearsonr, ttest_ind, ttest_rel

from results.gate import DEFAULT, Verdict, verdict_on
from results.stats import alpha_per_look

BETWEEN, WITHIN, AR, SPIKES, SPIKE, ITERATIONS = 0.02, 0.04, 0.3, 0.03, 3.0, 30
MARGIN = 0.05
LOOKS = DEFAULT.looks
ALPHA = 1 - DEFAULT.confidence

Array = NDArray[np.float64]


def log_medians(noise: np.random.Generator, levels: Array) -> Array:
    """Logarithms of the medians of the processes of each row, around their `levels` (logarithms, rows × processes)."""
    steps = noise.normal(0, WITHIN * math.sqrt(1 - AR**2), (ITERATIONS, *levels.shape))
    values = np.empty_like(steps)
    values[0] = steps[0] / math.sqrt(1 - AR**2)
    for i in range(1, ITERATIONS):
        values[i] = AR * values[i - 1] + steps[i]
    values += np.where(noise.random(values.shape) < SPIKES, math.log(SPIKE), 0.0)
    return levels + np.median(values, axis=0)


def sides(noise: np.random.Generator, rows: int, processes: int, shared: float = 0.0) -> tuple[Array, Array]:
    """Both sides of so many rows without a change; `shared` is the share of the variance between processes that blocks have in
    common, negative where what slows one side speeds up the other."""
    common, *own = (noise.normal(0, BETWEEN, (rows, processes)) for _ in range(3))
    weights = math.sqrt(abs(shared)), math.copysign(math.sqrt(abs(shared)), shared)
    a, b = (
        log_medians(noise, weight * common + math.sqrt(1 - abs(shared)) * one) for weight, one in zip(weights, own, strict=True)
    )
    return a, b


def tested(a: Array, b: Array, alpha: float, *, blocks: bool) -> tuple[Array, Array, Array, Array]:
    """Estimate, interval and p of each row, as `results.stats.welch` or `blocked` has them."""

    def numbers(test: object) -> tuple[Array, ...]:
        interval = test.confidence_interval(1 - alpha)  # type: ignore[attr-defined]
        return interval.low, interval.high, test.pvalue  # type: ignore[attr-defined]

    found = numbers(ttest_ind(b, a, axis=1, equal_var=False))
    if blocks:
        correlated = pearsonr(a, b, axis=1, alternative="greater").pvalue < 0.05
        found = tuple(np.where(correlated, *both) for both in zip(numbers(ttest_rel(b, a, axis=1)), found, strict=True))
    return (b.mean(axis=1) - a.mean(axis=1), *found)  # type: ignore[return-value]


def verdicts(a: Array, b: Array, counts: NDArray[np.int64], alpha: float, rows: int, *, blocks: bool = False) -> list[Verdict]:
    """The verdict on each row with its first `counts` processes; each `rows` of them are one comparison."""
    numbers = np.empty((4, len(counts)))
    for count in np.unique(counts):
        mine = counts == count
        numbers[:, mine] = tested(a[mine, :count], b[mine, :count], alpha, blocks=blocks)
    sure = false_discovery_control(numbers[3].reshape(-1, rows), axis=1).reshape(-1) <= alpha
    within, least = math.log1p(MARGIN), math.log1p(MARGIN / 2)
    found = zip(*numbers[:3].tolist(), sure.tolist(), strict=True)
    return [verdict_on(value, low, high, within, least, is_sure=is_sure) for value, low, high, is_sure in found]


@dataclass(frozen=True)
class Outcome:
    """What became of simulated comparisons."""

    counted: Counter[Verdict]
    """Changed rows by verdict, or all rows where none is changed."""
    wrong: int
    """Comparisons with a regression in an unchanged row."""
    processes: float
    """A side, on average over rows."""


def simulate(
    factor: float, looks: tuple[int, ...], rounds: int, seed: int, *, rows: int = 1, changed: int = 1, shared: float = 0.0,
    blocks: bool = False,
) -> Outcome:  # fmt: skip
    """So many comparisons of so many independent rows, of which so many are slower on B by the factor."""
    a, b = sides(np.random.default_rng(seed), rounds * rows, looks[-1], shared)
    is_changed = np.tile(np.arange(rows) < changed, rounds)
    b[is_changed] += math.log(factor)
    alpha = alpha_per_look(looks, ALPHA)
    counts = np.full(rounds * rows, looks[0])
    found = verdicts(a, b, counts, alpha, rows, blocks=blocks)
    for look in looks[1:]:
        counts[np.array(found) == "inconclusive"] = look
        found = verdicts(a, b, counts, alpha, rows, blocks=blocks)
    told = np.array(found)
    unchanged = ~is_changed if factor != 1 else np.full(len(told), True)
    wrong = ((told == "regression") & unchanged).reshape(-1, rows).any(axis=1).sum()
    counted: Counter[Verdict] = Counter(one for one, mine in zip(found, is_changed | (factor == 1), strict=True) if mine)
    return Outcome(counted, int(wrong), float(counts.mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blocks", action="store_true", help="Side by side in time, with several shares in common.")
    options = parser.parse_args()
    rounds, seed = options.rounds, options.seed
    print(f"{rounds} rows each, margin {MARGIN:.0%}; looks at {', '.join(map(str, LOOKS))} processes a side, each with alpha "
          f"{alpha_per_look(LOOKS, ALPHA):.4f}")  # fmt: skip
    print("shared  processes  change  regression  improvement  no change  inconclusive  processes a side")
    for shared in (-0.4, 0.0, 0.5, 0.9) if options.blocks else (0.0,):
        for looks in ((3,), (5,), (10,), LOOKS):
            for factor in (1.0, 1.05, 1.1, 1.2):
                found = simulate(factor, looks, rounds, seed, blocks=options.blocks, shared=shared)
                names: tuple[Verdict, ...] = ("regression", "improvement", "no_change", "inconclusive")
                shares = [found.counted[name] / rounds for name in names]
                columns = "".join(f"{share:{width}.1%}" for share, width in zip(shares, (12, 13, 11, 14), strict=True))
                shown = "looks" if looks == LOOKS else str(looks[0])
                print(f"{shared:6.0%}  {shown:>9}  {factor - 1:+6.0%}{columns}{found.processes:18.1f}")
    if options.blocks:
        return
    print("12 rows     looks  change of one row: found  any unchanged row called a regression")
    for looks in ((5,), LOOKS):
        for factor in (1.0, 1.05):
            found = simulate(factor, looks, rounds // 4, seed, rows=12)
            share = f"{found.counted['regression'] / (rounds // 4):.1%}" if factor != 1 else ""
            shown = "looks" if looks == LOOKS else str(looks[0])
            print(f"12 rows  {shown:>8}  {factor - 1:+6.0%}{share:>19}{found.wrong / (rounds // 4):47.1%}")


if __name__ == "__main__":
    main()
