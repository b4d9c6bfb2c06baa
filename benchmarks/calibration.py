"""Whether calibrations know the truth: what they find in simulated stores of several sizes, beside what is simulated directly.

    python benchmarks/calibration.py [--stores 20] [--trials 1000] [--seed 1]

The processes are those of `benchmarks/verdicts.py`; runs differ by nothing, or by as much as processes. One row, margin 5 %, the
default looks. A store of a few runs knows its own spread roughly, so stores differ: shown are the middle one, and the tenth and
ninetieth percentiles.
"""

import argparse
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from verdicts import ALPHA, BETWEEN, LOOKS, MARGIN, log_medians, verdicts

from results.calibration import Calibrated, calibrate
from results.cases import Case, PlannedCase
from results.policy import Policy, Rule
from results.records import Environment, Measurement, Report, Run
from results.stats import alpha_per_look

Array = NDArray[np.float64]

METRIC = "peak_rss_bytes"
POLICY = Policy(rules=(Rule(metrics=(METRIC,), margin=MARGIN),))
SIZES = ((1, 6), (1, 12), (1, 40), (4, 5), (10, 5), (40, 5))
"""Runs, and processes of each."""
AT = datetime(2026, 1, 1, tzinfo=UTC)


def processes(random: np.random.Generator, runs: int, each: int, apart: float) -> Array:
    """Logarithms of the processes' medians, runs × processes, whose runs differ by so much."""
    return log_medians(random, random.normal(0, apart, (runs, 1)) + random.normal(0, BETWEEN, (runs, each)))


def truth(random: np.random.Generator, apart: float, step: float, rounds: int) -> float:
    """The share of sides that are called a regression."""
    a, b = (processes(random, rounds, LOOKS[-1], apart) for _ in range(2))
    b += np.log1p(step)
    counts = np.full(rounds, LOOKS[0])
    alpha = alpha_per_look(LOOKS, ALPHA)
    found = verdicts(a, b, counts, alpha, 1)
    for look in LOOKS[1:]:
        counts[np.array(found) == "inconclusive"] = look
        found = verdicts(a, b, counts, alpha, 1)
    return found.count("regression") / rounds


def calibrated(levels: Array, trials: int) -> Calibrated:
    case = Case(
        weights="simulated", engine="simulated", device="cpu", dtype="fp32", quantization="fp32", source_precision="fp32",
        workload="simulated", output_tokens=1,
    )  # fmt: skip
    planned = PlannedCase(
        case=case, model="simulated", base_model=False, processes=levels.shape[1], iterations=1, min_seconds=0, warmup=0
    )
    reports = []
    for number, run in enumerate(np.exp(levels).tolist()):
        name = f"{number:04}"
        measured = tuple(
            Measurement(
                attempt_id=f"{name}-{process}", run_id=name, case_id=case.case_id, process=process, started_at=AT,
                timing="perf_counter", requests=(), values={METRIC: value},
            )
            for process, value in enumerate(run)
        )  # fmt: skip
        described = Run(
            run_id=name, suite="simulated", suite_hash="", suite_source={}, planned=(planned,), seed=0,
            environment=Environment(facts={}), command=(), started_at=AT,
        )  # fmt: skip
        reports.append(Report(run=described, measurements=measured))
    return calibrate(reports, POLICY, trials=trials, seed=1, at=AT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=20)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    print("runs differ by  stored       false regressions   finds +5 %          proposed margin")
    for apart in (0.0, BETWEEN):
        shares = [truth(random, apart, step, 4000) for step in (0.0, 0.05)]
        print(f"{apart:14.1%}  simulated    {shares[0]:<20.1%}{shares[1]:.1%}")
        for runs, each in SIZES:
            if apart and runs == 1:
                continue
            found = [
                calibrated(processes(random, runs, each, apart), options.trials).found.metrics[0] for _ in range(options.stores)
            ]
            false = [one.false_regressions / one.trials for one in found]
            power = [power.found / power.trials for one in found for power in one.power if power.effect == 0.05]
            columns = [_middle(shares) for shares in (false, power, [one.proposed_margin or 1.0 for one in found])]
            print(f"{apart:14.1%}  {runs:2} × {each:<7} {columns[0]:20}{columns[1]:20}{columns[2]}")


def _middle(shares: list[float]) -> str:
    low, middle, high = np.quantile(shares, (0.1, 0.5, 0.9))
    return f"{middle:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
