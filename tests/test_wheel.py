"""The wheel, in an empty environment elsewhere, without torch: everything that judges and shows on a terminal works from there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fakes import make_report, store_report

from results.store import Store

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path, expect: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "BENCH_STORE")}
    environment |= {"COLUMNS": "300", "BENCH_CACHE": str(cwd / "cache")}  # nothing wraps, and no weights are ready
    done = subprocess.run([str(one) for one in command], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_works_elsewhere_without_torch(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("gemmeter-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= {
        "bench/cli.py",
        "monitor/sampler.py",
        "dashboard/app_pages/run.py",
        "results/migrations/versions/0001_first_tables.py",
        "results/migrations/versions/0002_facts_of_measurements.py",
        "suites/quickstart.yaml",
        "suites/catalog.yaml",
        "suites/suite.schema.json",
        "suites/prompts/five-questions.yaml",
        "suites/rules/tutorial.yaml",
    }
    assert not any(name.startswith(("tests/", "docs/", "benchmarks/", ".")) for name in names)

    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    bench = tmp_path / "venv/bin/bench"
    assert "quickstart" in run(bench, "list", cwd=tmp_path)
    assert "tg16" in run(bench, "run", "quickstart", "--dry-run", cwd=tmp_path)
    assert 'pip install "gemmeter[quickstart]"' in run(bench, "doctor", cwd=tmp_path)
    assert "gemmeter[dashboard]" in run(bench, "dashboard", "--no-browser", cwd=tmp_path, expect=2)
    assert "not installed" in run(bench, "run", "quickstart", cwd=tmp_path, expect=5)
    with Store.writing(f"sqlite:///{tmp_path}/judged.db") as store:
        store_report(store, make_report(with_failure=False))
        slower = make_report(run_id="20260302-120000-bbbb", slower=1.5, with_failure=False, seed=2)
        store_report(store, slower.model_copy(update={"tags": ("slower",)}))
    judged = tmp_path / "judged.db"
    assert "regression" in run(bench, "compare", "main", "slower", "--store", judged, cwd=tmp_path, expect=1)
    assert "<html" in run(bench, "export", "slower", "--format", "html", "--store", judged, cwd=tmp_path)
    run(bench, "alerts", "eval", "--store", judged, cwd=tmp_path, expect=3)
