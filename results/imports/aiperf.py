"""AIPerf's artifacts: `profile_export_aiperf.json` with what was asked and the totals, `profile_export.jsonl` beside it with each request.

Read from `aiperf/common/models/record_models.py`, `aiperf/config/phases.py` and `aiperf/metrics/types/` of AIPerf 0.13.0. Either
file leads to the other; records without their totals are refused, as they name no model.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from results.cases import Load
from results.errors import UsageError
from results.imports.peer import Measured, Repetition, peer_report, served_case, session_warnings
from results.imports.source import Count, Foreign, Source, epoch
from results.record import Scalar, digest
from results.records import Report

TOOL = "AIPerf"
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
TIMES = {"aiperf_ttft_s": "time_to_first_token", "aiperf_itl_s": "inter_token_latency", "aiperf_e2e_s": "request_latency"}
RATES = {"aiperf_output_tps": "output_token_throughput", "aiperf_request_rate": "request_throughput"}
NO_IDENTITY = ("name", "kind", "type", "concurrency", "rate", "smoothness", "requests", "duration", "sessions")
"""Of a phase: what the load has already, and how long it lasted."""
_TOTALS, _RECORDS = "_aiperf.json", ".jsonl"
Nanoseconds = Annotated[int, Field(ge=0, le=2**63)]
"""Since the Unix epoch."""


class Model(Foreign):
    name: str


class Models(Foreign):
    items: Annotated[tuple[Model, ...], Field(min_length=1)]


class Endpoint(Foreign):
    type: str = "unknown"
    streaming: bool = False
    extra: dict[str, Any] | None = None


class Spread(Foreign):
    mean: FiniteFloat | None = None
    stddev: FiniteFloat | None = 0.0

    @property
    def exact(self) -> int | None:
        return int(self.mean) if self.mean is not None and not self.stddev and self.mean == int(self.mean) >= 0 else None


class Prompts(Foreign):
    isl: Spread | int = Spread()
    osl: Spread | int = Spread()


class Phase(Foreign):
    type: str
    concurrency: Count | None = None
    rate: Annotated[FiniteFloat, Field(gt=0)] | None = None
    smoothness: Annotated[FiniteFloat, Field(gt=0)] | None = None


class Asked(Foreign):
    models: Models
    endpoint: Endpoint = Endpoint()
    datasets: tuple[dict[str, Any], ...] = ()
    phases: tuple[dict[str, Any], ...] = ()


class Statistic(Foreign):
    unit: str
    avg: FiniteFloat | None = None
    p50: FiniteFloat | None = None


class Gpu(Foreign):
    gpu_name: str


class Exporter(Foreign):
    gpus: dict[str, Gpu] = Field({})


class Telemetry(Foreign):
    endpoints: dict[str, Exporter] = Field({})

    @property
    def gpus(self) -> str | None:
        """The server's, where AIPerf asked their exporters."""
        return ", ".join(gpu.gpu_name for one in self.endpoints.values() for gpu in one.gpus.values()) or None


class Totals(Foreign):
    aiperf_version: str
    input_config: Asked
    start_time: datetime
    was_cancelled: bool = False
    request_latency: Statistic | None = None
    time_to_first_token: Statistic | None = None
    inter_token_latency: Statistic | None = None
    output_token_throughput: Statistic | None = None
    request_throughput: Statistic | None = None
    telemetry_data: Telemetry | None = None


class Value(Foreign):
    value: Annotated[FiniteFloat, Field(ge=0)]
    unit: str


class Figures(Foreign):
    request_latency: Value | None = None
    time_to_first_token: Value | None = None
    inter_token_latency: Value | None = None
    input_sequence_length: Value | None = None
    output_sequence_length: Value | None = None


class When(Foreign):
    credit_issued_ns: Nanoseconds | None = None
    request_start_ns: Nanoseconds
    benchmark_phase: str = "profiling"
    was_cancelled: bool = False


class Mistake(Foreign):
    type: str | None = None
    message: str | None = None


class Record(Foreign):
    metadata: When
    metrics: Figures
    error: Mistake | None = None


def matches(source: Source) -> bool:
    first = source.first
    return {"aiperf_version", "input_config"} <= first.keys() or (
        {"metadata", "metrics"} <= first.keys()
        and isinstance(first["metadata"], dict)
        and "request_start_ns" in first["metadata"]
    )


def read(source: Source) -> Report:
    totals, records = _both(source)
    file = totals.checked(totals.first, Totals)
    rows = [records.checked(row, Record, f"line {number}") for number, row in enumerate(records.rows, 1)] if records else []
    rows = [row for row in rows if row.metadata.benchmark_phase == "profiling"]
    content = digest([totals.content_id, records.content_id if records else None])
    facts: dict[str, Scalar] = {"aiperf": file.aiperf_version, "gpus": file.telemetry_data.gpus if file.telemetry_data else None}
    measured = _measured(file, rows, totals)
    return peer_report(totals, TOOL, [measured], facts, content_id=content, cancelled=file.was_cancelled)


def _both(source: Source) -> tuple[Source, Source | None]:
    """The file with the totals, and the one with the requests where it lies beside."""
    if "aiperf_version" in source.first:
        return source, source.companion(source.name.removesuffix(_TOTALS) + _RECORDS)
    totals = source.companion(source.name.removesuffix(_RECORDS) + _TOTALS)
    if totals is None or "aiperf_version" not in totals.first:
        raise UsageError(f"{source.name} names no model: keep AIPerf's {source.name.removesuffix(_RECORDS)}{_TOTALS} beside it.")
    return totals, source


def _measured(file: Totals, rows: list[Record], source: Source) -> Measured:
    asked = file.input_config
    model = ", ".join(one.name for one in asked.models.items)
    prompts = [source.checked(one.get("prompts") or {}, Prompts, "datasets.prompts") for one in asked.datasets]
    isl, osl = (_length(getattr(prompts[0], name)) if len(prompts) == 1 else None for name in ("isl", "osl"))
    phase = _phase(asked.phases, source)
    case = served_case(
        TOOL, model, "openai", prompt=isl, output=osl, load=_load(source.checked(phase, Phase, "phases")),
        chat=asked.endpoint.type == "chat",
        workload=[asked.endpoint.model_dump(), asked.datasets, {key: phase[key] for key in phase if key not in NO_IDENTITY}],
    )  # fmt: skip
    values = {name: one.avg for name, key in RATES.items() if (one := getattr(file, key)) and one.avg is not None}
    summary = {
        name: _seconds(one.p50, one.unit, source) for name, key in TIMES.items() if (one := getattr(file, key)) and one.p50
    }
    start = min((row.metadata.request_start_ns for row in rows), default=0)
    return Measured(
        case=case, model=model, started_at=epoch(start / 1e9) if rows else file.start_time.replace(tzinfo=file.start_time.tzinfo or UTC),
        repetitions=tuple(_repetition(row, start, source) for row in sorted(rows, key=lambda row: row.metadata.request_start_ns)),
        values=values if rows else values | summary, warnings=session_warnings(TOOL, machine_known=bool(file.telemetry_data and file.telemetry_data.gpus)),
    )  # fmt: skip


def _length(given: Spread | int) -> int | None:
    return given.exact if isinstance(given, Spread) else given


def _phase(phases: tuple[dict[str, Any], ...], source: Source) -> dict[str, Any]:
    """The one that was measured."""
    main = [phase for phase in phases if phase.get("kind", "profiling") == "profiling"]
    if len(main) != 1:
        raise UsageError(f"{source.name} holds {len(main)} profiling phases: import a profile with one.")
    return main[0]


def _load(phase: Phase) -> Load:
    match phase.type:
        case "concurrency":
            return Load(arrivals="closed", concurrency=phase.concurrency or 1)
        case "constant":
            return Load(arrivals="constant", rate=phase.rate, concurrency=phase.concurrency)
        case "poisson":
            return Load(arrivals="poisson", rate=phase.rate, concurrency=phase.concurrency)
        case "gamma":
            return Load(arrivals="gamma", rate=phase.rate, burstiness=phase.smoothness, concurrency=phase.concurrency)
        case _:
            return Load(arrivals="trace", trace=digest(phase.model_dump()))


def _repetition(row: Record, start_ns: int, source: Source) -> Repetition:
    sent = (row.metadata.request_start_ns - start_ns) / 1e9
    issued = row.metadata.credit_issued_ns
    error = "cancelled by the client" if row.metadata.was_cancelled else None
    if row.error:
        error = f"server_error: {row.error.type or 'Error'}: {row.error.message or ''}"
    figures = row.metrics
    values = {name: _seconds(one.value, one.unit, source) for name, key in TIMES.items() if (one := getattr(figures, key))}
    prompt, output = figures.input_sequence_length, figures.output_sequence_length
    return Repetition(
        values={} if error else values, sent_s=sent, scheduled_s=None if issued is None else (issued - start_ns) / 1e9,
        prompt_tokens=int(prompt.value) if prompt else None, output_tokens=int(output.value) if output else None, error=error,
    )  # fmt: skip


def _seconds(value: float, unit: str, source: Source) -> float:
    if unit not in SECONDS:
        raise UsageError(f"{source.name}: {unit!r} is no unit of time that this version knows: use a newer Gemmeter.")
    return value * SECONDS[unit]
