"""GuideLLM's JSON report (`--output kind=json`): each benchmark is a case, each request that ended one of its requests.

Read from `guidellm/schemas/base/request_stats.py` and `guidellm/scheduler/strategies.py` of GuideLLM 0.8.1. Requests that were cut
off when a benchmark ended are left out, as GuideLLM leaves them out of its own figures.
"""

from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from results.cases import Load
from results.errors import UsageError
from results.imports.peer import Measured, Repetition, peer_report, served_case, session_warnings
from results.imports.source import Count, Foreign, Seconds, Source, epoch
from results.record import Scalar, Values
from results.records import Report

TOOL = "GuideLLM"


class Timings(Foreign):
    targeted_start: Seconds | None = None
    request_start: Seconds | None = None


class Info(Foreign):
    timings: Timings
    error: str | None = None


class Stats(Foreign):
    info: Info
    prompt_tokens: Count | None = None
    output_tokens: Count | None = None
    request_latency: Seconds | None = None
    time_to_first_token_ms: Seconds | None = None
    time_per_output_token_ms: Seconds | None = None
    inter_token_latency_ms: Seconds | None = None


class Requests(Foreign):
    successful: tuple[Stats, ...] = ()
    errored: tuple[Stats, ...] = ()


class Distribution(Foreign):
    mean: FiniteFloat
    median: FiniteFloat | None = None


class ByStatus(Foreign):
    successful: Distribution | None = None


class Metrics(Foreign):
    requests_per_second: ByStatus = ByStatus()
    output_tokens_per_second: ByStatus = ByStatus()
    request_latency: ByStatus = ByStatus()
    time_to_first_token_ms: ByStatus = ByStatus()
    time_per_output_token_ms: ByStatus = ByStatus()
    inter_token_latency_ms: ByStatus = ByStatus()


class Strategy(Foreign):
    type_: str
    rate: Annotated[FiniteFloat, Field(gt=0)] | None = None
    streams: Count | None = None
    max_concurrency: Count | None = None
    rampup_duration: Seconds = 0.0


class Backend(Foreign):
    kind: str
    model: str | None = None
    request_format: str | None = None
    stream: bool | None = None
    extras: dict[str, Any] | None = None
    max_tokens: Count | None = None


class Config(Foreign):
    strategy: Strategy
    backend: Backend


class Benchmark(Foreign):
    config: Config
    start_time: Seconds
    metrics: Metrics = Metrics()
    requests: Requests = Requests()


class Synthetic(Foreign):
    """Data whose prompts and answers all have one length, where the others are empty."""

    prompt_tokens: Count | None = None
    prompt_tokens_stdev: float | None = None
    prompt_tokens_min: float | None = None
    prompt_tokens_max: float | None = None
    output_tokens: Count | None = None
    output_tokens_stdev: float | None = None
    output_tokens_min: float | None = None
    output_tokens_max: float | None = None

    def length(self, name: str) -> int | None:
        varies = any(getattr(self, f"{name}_{part}") is not None for part in ("stdev", "min", "max"))
        found: int | None = getattr(self, name)
        return None if varies else found


class Spec(Foreign):
    data: tuple[dict[str, Any], ...] = ()


class Given(Foreign):
    spec: Spec = Spec()


class Metadata(Foreign):
    guidellm_version: str
    platform: str | None = None


class File(Foreign):
    metadata: Metadata
    config: Given = Given()
    benchmarks: Annotated[tuple[Benchmark, ...], Field(min_length=1)]


def matches(source: Source) -> bool:
    metadata = source.first.get("metadata")
    return "benchmarks" in source.first and isinstance(metadata, dict) and "guidellm_version" in metadata


def read(source: Source) -> Report:
    file = source.checked(source.first, File)
    measured = [_measured(one, file.config.spec.data, source) for one in file.benchmarks]
    facts: dict[str, Scalar] = {"guidellm": file.metadata.guidellm_version, "client_platform": file.metadata.platform}
    return peer_report(source, TOOL, measured, facts)


def _measured(one: Benchmark, data: tuple[dict[str, Any], ...], source: Source) -> Measured:
    backend = one.config.backend
    model = backend.model or "unknown"
    lengths = source.checked(data[0], Synthetic, "config.spec.data[0]") if len(data) == 1 else Synthetic()
    case = served_case(
        TOOL, model, backend.kind, chat="chat" in (backend.request_format or ""), load=_load(one.config.strategy, source),
        prompt=lengths.length("prompt_tokens"), output=lengths.length("output_tokens"),
        workload=[data, backend.stream, backend.extras, backend.max_tokens],
    )  # fmt: skip
    scheduled = one.config.strategy.type_ in ("constant", "poisson", "trace")
    repetitions = [_repetition(stats, one.start_time, scheduled) for stats in (*one.requests.successful, *one.requests.errored)]
    rates = {
        "guidellm_output_tps": one.metrics.output_tokens_per_second,
        "guidellm_request_rate": one.metrics.requests_per_second,
    }
    values = {name: found.successful.mean for name, found in rates.items() if found.successful}
    return Measured(
        case=case, model=model.rstrip("/").split("/")[-1], started_at=epoch(one.start_time), warnings=session_warnings(TOOL),
        repetitions=tuple(sorted(repetitions, key=lambda one: one.sent_s)),
        values=values if repetitions else values | _summary(one.metrics),
    )  # fmt: skip


def _load(strategy: Strategy, source: Source) -> Load | None:
    match strategy.type_:
        case "synchronous":
            return None
        case "concurrent":
            return Load(arrivals="closed", concurrency=strategy.streams or 1, ramp_s=strategy.rampup_duration)
        case "throughput" if strategy.max_concurrency:
            return Load(arrivals="closed", concurrency=strategy.max_concurrency, ramp_s=strategy.rampup_duration)
        case "throughput":
            return Load(arrivals="trace", trace="all at once")
        case "constant" | "poisson":
            arrivals = "constant" if strategy.type_ == "constant" else "poisson"
            return Load(arrivals=arrivals, rate=strategy.rate, concurrency=strategy.max_concurrency)
        case "trace":
            return Load(arrivals="trace")
    raise UsageError(f"{source.name}: the strategy {strategy.type_!r} is none that this version knows: use a newer Gemmeter.")


def _repetition(stats: Stats, start: float, scheduled: bool) -> Repetition:
    """The other strategies aim at sending at once, whatever their target says."""
    timings, failed = stats.info.timings, stats.info.error
    sent = (timings.request_start or start) - start
    return Repetition(
        values={} if failed else _values(stats), sent_s=sent, error=f"server_error: {failed}" if failed else None,
        scheduled_s=timings.targeted_start - start if scheduled and timings.targeted_start else None,
        prompt_tokens=stats.prompt_tokens, output_tokens=stats.output_tokens,
    )  # fmt: skip


def _values(stats: Stats) -> Values:
    found = {
        "guidellm_ttft_s": _seconds(stats.time_to_first_token_ms),
        "guidellm_tpot_s": _seconds(stats.time_per_output_token_ms),
        "guidellm_itl_s": _seconds(stats.inter_token_latency_ms),
        "guidellm_e2e_s": stats.request_latency,
    }
    return {name: value for name, value in found.items() if value is not None}


def _summary(metrics: Metrics) -> Values:
    """Medians over the successful requests, by GuideLLM's own account, of a report that keeps none of them."""
    found = {
        "guidellm_ttft_s": (metrics.time_to_first_token_ms, 1000), "guidellm_tpot_s": (metrics.time_per_output_token_ms, 1000),
        "guidellm_itl_s": (metrics.inter_token_latency_ms, 1000), "guidellm_e2e_s": (metrics.request_latency, 1),
    }  # fmt: skip
    return {
        name: one.successful.median / factor for name, (one, factor) in found.items() if one.successful and one.successful.median
    }


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
