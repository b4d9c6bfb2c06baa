"""A history as plain data for JSON, in base units."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.history_choice import Found
from bench.history_table import changes_by_series, series_key, series_state
from results.history import History
from results.history_groups import KnownChange, exit_code, run_to_dict


def to_dict(found: Found, *, with_points: bool) -> dict[str, Any]:
    """Plain data for JSON, in base units."""
    states = changes_by_series(found.findings)
    return {
        "schema": "history/1",
        "exit_code": exit_code(found.findings),
        "release": found.release and {"name": found.release.name, "run_ids": found.release.run_ids},
        "findings": [one.to_dict() for one in found.findings],
        "series": [_series_to_dict(one, states.get(series_key(one.series), []), with_points) for one in found.histories],
    }


def _series_to_dict(history: History, known: Sequence[KnownChange], with_points: bool) -> dict[str, Any]:
    series = history.series
    made = {
        "case_id": series.planned.case.case_id,
        "label": series.planned.label,
        "metric": series.metric,
        "unit": series.about.unit,
        "machine_id": series.machine_id,
        "state": series_state(history, known),
        "runs": len(series.points),
        "runs_needed": history.needed,
        "guarded": history.guarded,
        "stretches": [asdict(one) for one in history.stretches],
    }
    if with_points:
        made["points"] = [run_to_dict(one.run) | {"value": one.value, "processes": one.processes} for one in series.points]
        made["failed"] = [run_to_dict(one.run) | {"kind": one.kind} for one in series.failed]
    return made
