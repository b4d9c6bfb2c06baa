"""What the verdicts are worth: how often rows without a change are called one, and how often true changes are found.

    python benchmarks/verdicts.py [--rounds 4000] [--spread 0.02]

Each row is simulated as two sides of processes whose log medians spread normally. The last column is the share of
comparisons of 12 independent unchanged rows in which at least one is called a regression: rows are judged one by one.
"""

import argparse
import math
import random
from collections import Counter

from results.cases import Case, PlannedCase
from results.compare import ComparisonRow
from results.gate import Verdict, judge
from results.metrics import METRICS
from results.stats import Estimate, welch

ROWS = 12
CASE = Case(
    weights="sha256:0", engine="transformers", device="cpu", dtype="fp32", quantization="fp32", workload="p", output_tokens=1
)
PLANNED = PlannedCase(case=CASE, model="simulated")


def verdicts(metric: str, factor: float, processes: int, spread: float, rounds: int, seed: int = 1) -> Counter[Verdict]:
    """Verdicts on so many simulated rows whose B side is slower by the factor."""
    noise = random.Random(seed)
    side = Estimate(1.0, None, None, processes, "processes")
    found: Counter[Verdict] = Counter()
    for _ in range(rounds):
        a = [noise.gauss(0, spread) for _ in range(processes)]
        b = [noise.gauss(math.log(factor), spread) for _ in range(processes)]
        found[judge(ComparisonRow(PLANNED, metric, side, side, welch(a, b), processes))] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--spread", type=float, default=0.02)
    options = parser.parse_args()
    print(f"spread between processes {options.spread:.0%}, {options.rounds} rows each")
    print("margin  processes  change  regression  improvement  no change  inconclusive  12 rows, any false")
    for metric in ("tpot_s", "peak_rss_bytes"):
        for processes in (3, 5, 10):
            for factor in (1.0, 1.05, 1.2):
                found = verdicts(metric, factor, processes, options.spread, options.rounds)
                shares = [found[name] / options.rounds for name in ("regression", "improvement", "no_change", "inconclusive")]
                any_false = f"{1 - (1 - shares[0]) ** ROWS:19.1%}" if factor == 1 else ""
                columns = "".join(f"{share:{width}.1%}" for share, width in zip(shares, (12, 13, 11, 14), strict=True))
                print(f"{METRICS[metric].margin:6.0%}  {processes:9}  {factor - 1:+6.0%}{columns}{any_false}")


if __name__ == "__main__":
    main()
