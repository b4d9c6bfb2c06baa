"""Runs as a store lists them, and moves of baselines, for tests without a store."""

from datetime import timedelta

from fakes import START

from results.decided import Baseline
from results.stored_runs import StoredRun


def make_stored_run(number: int, **fields: object) -> StoredRun:
    """The run of the number-th day of March."""
    known = {"kind": "bench", "suite": "quickstart", "status": "finished", "machine_id": "m1-a"}
    run_id = f"202603{number:02d}-120000-{'abcdef'[number % 6] * 4}"
    return StoredRun(run_id=run_id, started_at=START + timedelta(days=number), **(known | fields))  # type: ignore[arg-type]


def make_move(name: str, *run_ids: str, reference: str | None = None) -> Baseline:
    return Baseline(name=name, reference=reference, run_ids=run_ids, author="Ada", reason="why not", at=START)
