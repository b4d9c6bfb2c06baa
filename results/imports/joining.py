"""Several imported reports as one run: repetitions of the same measurement become its processes. Reading them is left to the readers."""

from collections.abc import Sequence

from results.cases import PlannedCase
from results.errors import UsageError
from results.record import digest
from results.records import Measurement, Report
from results.writing import check_own


def joined(reports: Sequence[Report]) -> Report:
    """One run of all reports, in their order of time, with the ids of the earliest one's moment and of all content.

    Raises:
        UsageError: they are ours, broken, of several tools or of several machines, or one is there twice.
    """
    ordered = sorted(reports, key=lambda one: (one.run.started_at, one.run.run_id))
    first = ordered[0].run
    for report in ordered:
        check_own(report)
        other = report.run
        if other.kind != "import" or report.failures or report.scores:
            raise UsageError(f"{other.run_id} is a run of Gemmeter's own: import it without --join.")
        if other.suite_source.get("tool") != first.suite_source.get("tool") or other.environment != first.environment:
            raise UsageError(
                f"{first.run_id} and {other.run_id} come from different tools, versions or machines: import them without --join."
            )
    if len({attempt.attempt_id for one in ordered for attempt in one.measurements}) < sum(
        len(one.measurements) for one in ordered
    ):
        raise UsageError("One report is given twice: name each file once.")
    run_id = f"{first.started_at:%Y%m%d-%H%M%S}-{digest([one.run.run_id for one in ordered])[:4]}"
    planned: dict[str, PlannedCase] = {}
    measurements: list[Measurement] = []
    for report in ordered:
        for measurement in report.measurements:
            plan, known = report.run.plan_of(measurement.case_id), planned.get(measurement.case_id)
            process = known.processes if known else 0
            planned[measurement.case_id] = (known or plan).model_copy(update={"processes": process + 1})
            measurements.append(measurement.model_copy(update={"run_id": run_id, "process": process}))
    run = first.model_copy(
        update={
            "run_id": run_id,
            "planned": tuple(planned.values()),
            "suite_source": first.suite_source | {"content": [one.run.suite_source.get("content") for one in ordered]},
            "command": ("bench", "import", "--join", *(word for one in ordered for word in one.run.command[-1:])),
        }
    )
    events = [event.model_copy(update={"run_id": run_id}) for one in ordered for event in one.events]
    cancelled = [event for event in events if event.kind != "finished"]
    tags = sorted({tag for one in ordered for tag in one.tags})
    return Report(run=run, events=tuple((cancelled or events)[-1:]), tags=tuple(tags), measurements=tuple(measurements))
