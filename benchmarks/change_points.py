"""What the change points of a history are worth: on labelled series, on noise without a change, and on steps.

    python benchmarks/change_points.py [--data FOLDER] [--series 2000] [--online 200] [--steps 400] [--stores 100]

Labelled series: the folder holds `annotations.json` (series → annotator → indices) and one file of the Turing Change Point
Dataset per series. Each method runs with one setting for all series. Mean covering, and F1 with margin 5 where index 0 counts
as a change, after van den Burg & Williams, "An Evaluation of Change Point Detection Algorithms" (arXiv 2003.06222), section 4.
Ruptures and Apache Otava are scored where they are installed, and are not needed.

False alarms: share of 200-point series without a change in which anything is found, in the whole series and, as a user who
looks after every fifth run would see it, at any time. Steps: 3 standard deviations in normal noise after 100 points. Verdicts:
how often `bench history` after every one of 60 runs ends with an exit code other than 0, though nothing changed in any of six series.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

from results.cases import Case, PlannedCase
from results.change_points import change_points
from results.fast_rule import LEAST, suspected
from results.history import MetricSeries, Point, RunOrigin
from results.history_changes import history_of
from results.history_groups import exit_code, findings

POINTS = 200
Method = Callable[[Sequence[float]], Iterable[int]]
Noise = Callable[[np.random.Generator], list[float]]


def covering(annotations: Sequence[Sequence[int]], found: Iterable[int], n: int) -> float:
    """How well the found stretches cover each annotator's: Jaccard index of the best match, by length, on average."""
    ours = _stretches(found, n)
    shares = [
        sum((end - start) * max(_jaccard((start, end), one) for one in ours) for start, end in _stretches(marks, n)) / n
        for marks in annotations
    ]
    return sum(shares) / len(shares)


def f1(annotations: Sequence[Sequence[int]], found: Iterable[int], margin: int = 5) -> float:
    """Harmonic mean of the precision against all annotators together and of the mean recall of each."""
    ours, theirs = {0, *found}, [{0, *marks} for marks in annotations]
    precision = _hits(set().union(*theirs), ours, margin) / len(ours)
    recall = sum(_hits(marks, ours, margin) / len(marks) for marks in theirs) / len(theirs)
    return 2 * precision * recall / (precision + recall)


def _stretches(changes: Iterable[int], n: int) -> list[tuple[int, int]]:
    return list(pairwise([0, *sorted({change for change in changes if 0 < change < n}), n]))


def _jaccard(a: tuple[int, int], b: tuple[int, int]) -> float:
    both = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return both / (a[1] - a[0] + b[1] - b[0] - both)


def _hits(marks: set[int], found: set[int], margin: int) -> int:
    """How many of the marks have a found one near; each found one counts once, for the nearest mark in order of time."""
    left, hits = set(found), 0
    for mark in sorted(marks):
        near = [one for one in left if abs(one - mark) <= margin]
        if near:
            left.remove(min(near, key=lambda one: (abs(one - mark), one)))
            hits += 1
    return hits


def ours(values: Sequence[float]) -> list[int]:
    return [change.index for change in change_points(values)]


def nothing(values: Sequence[float]) -> list[int]:
    return []


def ruptures_methods() -> dict[str, Method]:
    """PELT with the model and penalty of its documentation's first example, and with scaled values and other penalties."""
    import ruptures

    def method(model: str, penalty: float | None, *, scaled: bool) -> Method:
        def find(values: Sequence[float]) -> list[int]:
            signal = np.asarray(values, dtype=float)
            signal = (signal - signal.mean()) / signal.std() if scaled else signal
            pen = math.log(len(signal)) if penalty is None else penalty
            return list(ruptures.Pelt(model=model).fit(signal).predict(pen=pen)[:-1])

        return find

    return {
        f"ruptures Pelt {model}, penalty {penalty or 'log n'}{', scaled' if scaled else ''}": method(
            model, penalty, scaled=scaled
        )
        for model, penalty, scaled in (
            ("rbf", 10, False),
            ("rbf", None, False),
            ("rbf", 3, False),
            ("l2", 10, False),
            ("l2", None, False),
            ("l2", 10, True),
            ("l2", None, True),
            ("l1", 10, True),
            ("l1", None, True),
        )
    }


def otava_methods() -> dict[str, Method]:
    """With the window, p-value and magnitude of its own `AnalysisOptions`."""
    from otava.analysis import compute_change_points
    from otava.series import AnalysisOptions

    chosen = AnalysisOptions()

    def find(values: Sequence[float]) -> list[int]:
        changes, _ = compute_change_points(
            list(values), chosen.window_len, max_pvalue=chosen.max_pvalue, min_magnitude=chosen.min_magnitude
        )
        return [change.index for change in changes]

    return {f"otava, window {chosen.window_len}, p {chosen.max_pvalue}": find}


def labelled(folder: Path) -> dict[str, tuple[list[float], list[list[int]]]]:
    """Values and each annotator's changes, by name of the series."""
    annotations = json.loads((folder / "annotations.json").read_text())
    return {
        name: (
            [float(value) for value in json.loads((folder / f"{name}.json").read_text())["series"][0]["raw"]],
            list(marks.values()),
        )
        for name, marks in sorted(annotations.items())
    }


def scores(method: Method, series: dict[str, tuple[list[float], list[list[int]]]]) -> dict[str, tuple[float, float, int]]:
    """Covering, F1 and number of changes, by name of the series."""
    found = {name: list(method(values)) for name, (values, _) in series.items()}
    return {
        name: (covering(marks, found[name], len(values)), f1(marks, found[name]), len(found[name]))
        for name, (values, marks) in series.items()
    }


def normal(random: np.random.Generator) -> list[float]:
    return list(random.standard_normal(POINTS))


def lognormal(sigma: float) -> Noise:
    return lambda random: list(np.exp(sigma * random.standard_normal(POINTS)))


def autoregressive(rho: float) -> Noise:
    def noise(random: np.random.Generator) -> list[float]:
        values = [float(random.standard_normal()) / math.sqrt(1 - rho**2)]
        for shock in random.standard_normal(POINTS - 1):
            values.append(rho * values[-1] + float(shock))
        return values

    return noise


def spiky(random: np.random.Generator) -> list[float]:
    """Normal, three in a hundred 10 standard deviations higher."""
    return list(random.standard_normal(POINTS) + 10 * (random.random(POINTS) < 0.03))


NOISES: dict[str, Noise] = {
    "normal": normal,
    "lognormal 0.5": lognormal(0.5),
    "lognormal 1": lognormal(1.0),
    "AR(0.3)": autoregressive(0.3),
    "AR(0.6)": autoregressive(0.6),
    "spiky": spiky,
}


def left(stretch: Sequence[float], newest: Sequence[float]) -> bool:
    """Whether the newest runs are all suspected against the stretch before them, on one side."""
    found = [suspected(stretch, value, margin=0) for value in newest]
    return len({one is not None and one.effect > 0 for one in found}) == 1 and all(found)


def confirmed(values: Sequence[float]) -> bool:
    """Whether the fast rule would ever have confirmed a suspicion; on logarithms where all are positive, as in a history."""
    scale = [math.log(value) for value in values] if min(values) > 0 else list(values)
    return any(left(scale[:first], scale[first : first + 2]) for first in range(LEAST, len(scale) - 1))


def told(values: Sequence[float]) -> bool:
    """Whether the whole series holds a change point, or a run that the fast rule confirmed when it was new."""
    return bool(change_points(values)) or confirmed(values)


def told_at_any_time(values: Sequence[float], every: int = 5) -> bool:
    """The same for somebody who looked at each fifth prefix."""
    return confirmed(values) or any(change_points(values[:end]) for end in range(2 * every, len(values) + 1, every))


def alarms(noise: Noise, is_told: Callable[[Sequence[float]], bool], series: int, seed: int = 1) -> float:
    """Share of series without a change of which something is told."""
    random = np.random.default_rng(seed)
    return sum(is_told(noise(random)) for _ in range(series)) / series


def runs_until_found(step: float, random: np.random.Generator, after: int = 100, most: int = 30) -> float:
    """Runs after a step until change points find it, within 3 of its place, or the fast rule confirms it; infinite: not found."""
    values = random.standard_normal(after + most)
    values[after:] += step * random.choice([-1, 1])
    for seen in range(1, most + 1):
        prefix = values[: after + seen].tolist()
        newest = range(max(after, len(prefix) - 8), len(prefix) - 1)
        if any(left(prefix[:first], prefix[first:]) for first in newest) or any(abs(at - after) <= 3 for at in ours(prefix)):
            return seen
    return math.inf


STORED_RUNS, STORED_SERIES = 60, 6
SPREAD = 0.02
"""Between runs, of the logarithms of their times."""


def exit_codes(noise: Noise, random: np.random.Generator) -> list[int]:
    """Of `bench history` after each run of a store in which nothing changed. Its series are all called by one name."""
    case = Case(weights="", engine="none", device="cpu", dtype="fp32", quantization="fp32", workload="", output_tokens=1)
    planned = PlannedCase(case=case, model="none", processes=1, iterations=1, min_seconds=0, warmup=0)
    start = datetime(2000, 1, 1, tzinfo=UTC)
    runs = [RunOrigin(f"{i:02}", start + timedelta(days=i), "", None, None, False, "", {}) for i in range(STORED_RUNS)]
    stored = [[math.exp(SPREAD * one) for one in noise(random)[:STORED_RUNS]] for _ in range(STORED_SERIES)]
    points = [tuple(Point(run, value, 1) for run, value in zip(runs, values, strict=True)) for values in stored]
    return [
        exit_code(findings([history_of(MetricSeries(planned, "tpot_s", "", one[:seen])) for one in points], (), start))
        for seen in range(1, STORED_RUNS + 1)
    ]


def print_verdicts(stores: int) -> None:
    size = f"{STORED_RUNS} runs of {STORED_SERIES} series"
    print(f"\nexit codes of `bench history` after each of {size}, {stores} stores without a change")
    print(f"noise of {SPREAD:.0%}         ever 1    ever 3    runs with 1    runs with 3")
    for name in ("normal", "AR(0.3)", "AR(0.6)", "spiky"):
        random = np.random.default_rng(1)
        codes = [exit_codes(NOISES[name], random) for _ in range(stores)]
        ever = [sum(code in one for one in codes) / stores for code in (1, 3)]
        runs = Counter(code for one in codes for code in one)
        shares = [runs[code] / runs.total() for code in (1, 3)]
        print(f"{name:12}{ever[0]:12.1%}{ever[1]:10.1%}{shares[0]:15.2%}{shares[1]:15.2%}", flush=True)


def print_scores(folder: Path) -> None:
    series = labelled(folder)
    methods: dict[str, Method] = {"no change at all": nothing, "ours": ours}
    for package, more in (("ruptures", ruptures_methods), ("otava", otava_methods)):
        methods |= more() if find_spec(package) else {}
    print(f"{len(series)} labelled series{'':35}mean covering  mean F1")
    for name, method in methods.items():
        one = scores(method, series)
        print(f"{name:52}{np.mean([row[0] for row in one.values()]):13.3f}{np.mean([row[1] for row in one.values()]):9.3f}")
    print("\nseries                points  changes  covering     F1   with no change")
    unchanged = scores(nothing, series)
    for name, (cover, harmonic, changes) in scores(ours, series).items():
        bare = f"{unchanged[name][0]:11.3f}{unchanged[name][1]:7.3f}"
        print(f"{name:22}{len(series[name][0]):6}{changes:9}{cover:10.3f}{harmonic:7.3f}{bare}")


def print_alarms(series: int, online: int) -> None:
    print(f"\nseries of {POINTS} points without a change of which something is told")
    print(f"noise            change points  and fast rule   at any time   ({series}, {series} and {online} series)")
    for name, noise in NOISES.items():
        shares = (
            alarms(noise, lambda values: bool(change_points(values)), series),
            alarms(noise, told, series),
            alarms(noise, told_at_any_time, online),
        )
        print(f"{name:16}{shares[0]:14.1%}{shares[1]:15.1%}{shares[2]:14.1%}")


def print_steps(count: int) -> None:
    print(f"\nsteps in normal noise, {count} of each: found within 2, 3, 5, 10, 20 runs")
    for step in (2.0, 3.0, 5.0):
        random = np.random.default_rng(1)
        runs = [runs_until_found(step, random) for _ in range(count)]
        shares = "".join(f"{sum(one <= most for one in runs) / count:8.1%}" for most in (2, 3, 5, 10, 20))
        print(f"{step:.0f} standard deviations {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of labelled series")
    parser.add_argument("--series", type=int, default=2000, help="series per noise")
    parser.add_argument("--online", type=int, default=200, help="of these, judged at every fifth prefix")
    parser.add_argument("--steps", type=int, default=400, help="steps of each size")
    parser.add_argument("--stores", type=int, default=100, help="of each noise, judged after every run")
    options = parser.parse_args()
    if options.data:
        print_scores(options.data)
    print_alarms(options.series, options.online)
    print_steps(options.steps)
    if options.stores:
        print_verdicts(options.stores)


if __name__ == "__main__":
    main()
