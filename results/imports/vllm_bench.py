"""`vllm bench serve --save-result`, with single requests where `--save-detailed` kept them, several in a file of `--append-result`.

Read from `vllm/benchmarks/serve.py` of vLLM 0.33.0. Its reports name neither the version nor the machine. Their date has no time
zone and is taken as UTC.
"""

import statistics
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from results.cases import Load
from results.errors import UsageError
from results.imports.peer import Measured, Repetition, peer_report, served_case, session_warnings
from results.imports.source import Count, Foreign, Seconds, Source
from results.record import Values, digest
from results.records import Report

TOOL = "vllm-bench"
Positive = Annotated[FiniteFloat, Field(gt=0)]


class Benchmark(Foreign):
    date: str
    backend: str
    model_id: str
    num_prompts: Count
    request_rate: Positive | Literal["inf"]
    burstiness: float = 1.0
    max_concurrency: Count | None = None
    ramp_up_strategy: str | None = None
    ramp_up_start_rps: float | None = None
    ramp_up_end_rps: float | None = None
    duration: Positive
    completed: Count
    total_input_tokens: Count
    total_output_tokens: Count
    request_throughput: Seconds
    output_throughput: Seconds
    median_ttft_ms: Seconds | None = None
    median_tpot_ms: Seconds | None = None
    median_itl_ms: Seconds | None = None
    median_e2el_ms: Seconds | None = None
    input_lens: tuple[Count, ...] = ()
    output_lens: tuple[Count, ...] = ()
    ttfts: tuple[Seconds, ...] = ()
    itls: tuple[tuple[Seconds, ...], ...] = ()
    latencies: tuple[Seconds, ...] = ()
    start_times: tuple[FiniteFloat, ...] = ()
    queue_times: tuple[Seconds | None, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def is_detailed(self) -> bool:
        return bool(self.ttfts)


def matches(source: Source) -> bool:
    return {"date", "backend", "model_id", "request_throughput", "total_output_tokens"} <= source.first.keys()


def read(source: Source) -> Report:
    found = [source.checked(row, Benchmark, f"benchmark {number}") for number, row in enumerate(source.rows, start=1)]
    return peer_report(source, TOOL, [_measured(one, source) for one in found], {})


def _measured(one: Benchmark, source: Source) -> Measured:
    case = served_case(
        TOOL, one.model_id, one.backend, chat="chat" in one.backend, load=_load(one), workload=None,
        prompt=_mean(one.total_input_tokens, one.completed), output=_mean(one.total_output_tokens, one.completed),
    )  # fmt: skip
    values = {"vllm_output_tps": one.output_throughput, "vllm_request_rate": one.request_throughput}
    gaps = [gap for gaps in one.itls for gap in gaps]
    if gaps:
        values["vllm_itl_s"] = statistics.median(gaps)
    return Measured(
        case=case, model=one.model_id.rstrip("/").split("/")[-1], started_at=_ended(one, source) - timedelta(seconds=one.duration),
        repetitions=_repetitions(one, source) if one.is_detailed else (),
        values=values if one.is_detailed else values | _summary(one), warnings=session_warnings(TOOL),
    )  # fmt: skip


def _mean(tokens: int, requests: int) -> int | None:
    return tokens // requests if requests and tokens % requests == 0 else None


def _load(one: Benchmark) -> Load:
    if one.ramp_up_strategy:
        return Load(arrivals="trace", trace=digest([one.ramp_up_strategy, one.ramp_up_start_rps, one.ramp_up_end_rps]))
    if one.request_rate == "inf":
        return Load(arrivals="closed", concurrency=one.max_concurrency or one.num_prompts)
    steady = one.burstiness == float("inf")
    bursty = not steady and one.burstiness != 1
    return Load(
        arrivals="constant" if steady else "gamma" if bursty else "poisson", rate=one.request_rate,
        burstiness=one.burstiness if bursty else None, concurrency=one.max_concurrency,
    )  # fmt: skip


def _ended(one: Benchmark, source: Source) -> datetime:
    try:
        return datetime.strptime(one.date, "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(
            f"{source.name}: date: {one.date!r} is no date such as 20261122-081115: take the file as vLLM wrote it."
        ) from None


def _summary(one: Benchmark) -> Values:
    """Medians over the requests, by vLLM's own account; without a tokenizer it writes none, and 0 where nothing came."""
    found = {"ttft": one.median_ttft_ms, "tpot": one.median_tpot_ms, "itl": one.median_itl_ms, "e2e": one.median_e2el_ms}
    return {f"vllm_{name}_s": value / 1000 for name, value in found.items() if value}


def _repetitions(one: Benchmark, source: Source) -> tuple[Repetition, ...]:
    """Older versions keep neither start times nor latencies: a latency is then the TTFT and all gaps."""
    count = len(one.ttfts)
    latencies = one.latencies or tuple(
        [*accumulate(gaps, initial=ttft)][-1] for ttft, gaps in zip(one.ttfts, one.itls, strict=False)
    )
    starts = tuple(start - min(one.start_times) for start in one.start_times) or (0.0,) * count
    errors = one.errors or ("",) * count
    if {len(one.input_lens), len(one.output_lens), len(one.itls), len(latencies), len(starts), len(errors)} != {count}:
        raise UsageError(f"{source.name}: its lists of requests differ in length: take the file as vLLM wrote it.")
    open_loop = one.request_rate != "inf" and len(one.queue_times) == count
    found = []
    for number in range(count):
        values = {"vllm_ttft_s": one.ttfts[number], "vllm_e2e_s": latencies[number]}
        if one.output_lens[number] > 1:
            values["vllm_tpot_s"] = (latencies[number] - one.ttfts[number]) / (one.output_lens[number] - 1)
        error = f"server_error: {errors[number]}" if errors[number] else None
        found.append(
            Repetition(
                values={} if error else values, sent_s=starts[number], error=error,
                scheduled_s=starts[number] - (one.queue_times[number] or 0.0) if open_loop else None,
                prompt_tokens=one.input_lens[number], output_tokens=one.output_lens[number],
            )
        )  # fmt: skip
    return tuple(found)
