"""What the reports of all other tools become: a run of kind `import`, whose cases can equal no local one, with ids that the
content decides. What a format says is left to its reader."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from results.cases import Case, Load, PlannedCase
from results.imports.source import Source
from results.record import Scalar, Values, digest
from results.records import Environment, Measurement, Report, Request, RowWarning, Run, RunEvent

IMPORTED = "imported:"
"""What the identity of weights begins with that another tool named."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Repetition:
    """One request, or one timed repetition. Times are seconds since the start of its measurement."""

    values: Values
    """Under the tool's own metrics."""
    sent_s: float
    scheduled_s: float | None = None
    """`None`: when it was sent."""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Measured:
    """One case of a report, in one process."""

    case: Case
    model: str
    started_at: datetime
    repetitions: tuple[Repetition, ...] = ()
    values: Values = field(default_factory=dict)
    facts: dict[str, Scalar] = field(default_factory=dict)
    warnings: tuple[RowWarning, ...] = ()


def imported_case(tool: str, model: str, settings: object = None, **axes: object) -> Case:
    """A case of another tool's.

    Args:
        settings: what else makes two of its cases different, of any JSON type.
        axes: of `Case`; those that no report tells have a value that says so.
    """
    identity = model if settings in (None, {}) else f"{model}#{digest(settings)}"
    fields: dict[str, object] = {
        "weights": f"{IMPORTED}{tool}:{identity}", "device": UNKNOWN, "dtype": UNKNOWN, "quantization": UNKNOWN,
        "workload": f"{IMPORTED}{tool}",
    }  # fmt: skip
    return Case.model_validate(fields | axes)


def served_case(
    tool: str, model: str, engine: str, *, prompt: int | None, output: int | None, load: Load | None, chat: bool, workload: object
) -> Case:
    """A case of a tool that asks a server, about which it knows nothing.

    Args:
        prompt: tokens, where all prompts have as many.
        output: likewise; `None` is an answer that may stop when it wants.
    """
    return imported_case(
        tool, model, engine=engine, target=UNKNOWN, prompt_tokens=prompt or None, output_tokens=output or 0, load=load,
        stop="length" if output else "eos", prompt_format="chat" if chat else "plain",
        workload=f"{IMPORTED}{tool}:{digest(workload)}",
    )  # fmt: skip


def peer_report(
    source: Source,
    tool: str,
    measured: Sequence[Measured],
    facts: dict[str, Scalar],
    *,
    content_id: str = "",
    cancelled: bool = False,
) -> Report:
    """The report as a run, with the same ids whenever it is read.

    Args:
        measured: at least one; those of one case are processes in their order.
        facts: of the environment, under our names where it is the machine that was measured.
        content_id: of more than the one file.
    """
    content_id = content_id or source.content_id
    started = min(one.started_at for one in measured)
    run_id = f"{started:%Y%m%d-%H%M%S}-{digest([tool, content_id])[:4]}"
    planned: dict[str, PlannedCase] = {}
    measurements = []
    for one in measured:
        case_id = one.case.case_id
        process = planned[case_id].processes if case_id in planned else 0
        attempt_id = "m" + digest([content_id, case_id, process])[:15]
        planned[case_id] = PlannedCase(
            case=one.case, model=one.model, processes=process + 1, iterations=max(len(one.repetitions), 1)
        )
        measurements.append(
            Measurement(
                attempt_id=attempt_id, run_id=run_id, case_id=case_id, process=process, started_at=one.started_at,
                timing=tool, values=one.values, facts=one.facts, warnings=one.warnings + _early_stops(one),
                requests=tuple(_request(attempt_id, index, one, repetition) for index, repetition in enumerate(one.repetitions)),
            )
        )  # fmt: skip
    run = Run(
        run_id=run_id, kind="import", suite=tool, suite_hash=digest(tool), suite_source={"tool": tool, "content": content_id},
        planned=tuple(planned.values()), seed=0, environment=Environment(facts={"imported_from": tool} | facts),
        command=("bench", "import", source.name), started_at=started,
    )  # fmt: skip
    ended = RunEvent(run_id=run_id, at=max(one.started_at for one in measured), kind="interrupted" if cancelled else "finished")
    return Report(run=run, events=(ended,), measurements=tuple(measurements))


def session_warnings(tool: str, machine_known: bool = False) -> tuple[RowWarning, ...]:
    """What is said of every case that a load generator measured at a server that it did not start."""
    unknown = () if machine_known else (RowWarning(kind="unknown_machine", facts={"tool": tool}),)
    return (RowWarning(kind="remote_session"), *unknown)


def _early_stops(one: Measured) -> tuple[RowWarning, ...]:
    counts = [each.output_tokens for each in one.repetitions if each.output_tokens is not None and not each.error]
    wanted = one.case.output_tokens if one.case.stop == "length" else 0
    stopped = sum(count < wanted for count in counts)
    facts: dict[str, Scalar] = {"stopped": stopped, "requests": len(counts), "wanted": wanted}
    return (RowWarning(kind="early_stop", facts=facts),) if stopped else ()


def _request(attempt_id: str, index: int, measured: Measured, one: Repetition) -> Request:
    return Request(
        request_id="q" + digest([attempt_id, index])[:15], index=index, prompt_index=index,
        sent_at=measured.started_at + timedelta(seconds=one.sent_s), sent_s=one.sent_s,
        scheduled_s=one.sent_s if one.scheduled_s is None else one.scheduled_s,
        prompt_tokens=one.prompt_tokens, output_tokens=one.output_tokens, error=one.error, values=one.values,
    )  # fmt: skip
