"""What a sweep costs beyond what it measures: twelve cases over one load, against the sum of their measured times and the load.

    python benchmarks/sweep.py [MODEL] [--dtype bf16] [--seconds 2] [--seed 1]

MODEL is a name of the catalog or a local folder; without one it is gemma-3-270m. A whole `bench run` is timed from outside; a case's
measured time is that from its first counted request to the end of its last one, so its warm-up counts as cost. The goal is a ratio
below 1.3.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

from results.records import Measurement, Report
from results.store import Store

RUN = "import sys; sys.argv[0] = 'bench'; from bench.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="gemma-3-270m")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring each case, at the least")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    model = str(Path(options.model).resolve()) if Path(options.model).exists() else options.model
    suite = {
        "name": "twelve", "question": "What does a sweep cost?",
        "defaults": {"model": model, "dtype": options.dtype, "processes": 1, "min_seconds": options.seconds},
        "matrix": {"prompt_tokens": [16, 64, 128], "output_tokens": [8, 16, 32, 64]},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "twelve.yaml").write_text(yaml.safe_dump(suite))
        command = [sys.executable, "-P", "-c", RUN, "run", "twelve.yaml", "--quiet", "--seed", options.seed]
        at, start = datetime.now(UTC), time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        wall_s = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stderr or done.stdout)
        with Store.reading(str(Path(folder) / ".bench/results.db")) as store:
            report = store.report(store.resolve_run("latest"))
    show(report, at, wall_s)


def show(report: Report, at: datetime, wall_s: float) -> None:
    rows = sorted(report.measurements, key=lambda one: one.started_at)
    load_s = rows[0].values["import_s"] + rows[0].values["load_s"]
    measured_s = sum(end - begin for begin, end in map(window, rows))
    begun = [one.started_at.timestamp() for one in rows]
    ended = [start + window(one)[1] for start, one in zip(begun, rows, strict=True)]
    parts = {
        "until the run began": report.run.started_at.timestamp() - at.timestamp(),
        "start of the worker, first call, calibration": begun[0] - report.run.started_at.timestamp() - load_s,
        "warm-ups": sum(window(one)[0] for one in rows),
        "between cases": sum(begun[1:]) - sum(ended[:-1]),
        "after the last case": at.timestamp() + wall_s - ended[-1],
    }
    print(f"{len(rows)} cases in one load: {wall_s:.1f} s, of which {measured_s:.1f} s measured and {load_s:.1f} s of loading")
    for name, seconds in parts.items():
        print(f"  {name}: {seconds:.2f} s")
    print(f"ratio {wall_s / (measured_s + load_s):.3f}")


def window(measurement: Measurement) -> tuple[float, float]:
    """From the first counted request to the end of the last one, in seconds since the case began."""
    ends = [request.last_content_s for request in measurement.requests if request.last_content_s is not None]
    return min(request.sent_s for request in measurement.requests), max(ends)


if __name__ == "__main__":
    main()
