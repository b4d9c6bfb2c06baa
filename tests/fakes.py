"""Records with exact numbers for tests: no clock, no device, no randomness that is not seeded."""

import random
from datetime import UTC, datetime, timedelta

from results.cases import Case, PlannedCase
from results.records import Environment, Failure, Measurement, Report, Request, RowWarning, Run, RunEvent, Score, Series

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def make_case(**changes: object) -> Case:
    fields: dict[str, object] = {
        "weights": "sha256:" + "a5" * 32,
        "engine": "transformers",
        "device": "cpu",
        "dtype": "fp32",
        "quantization": "fp32",
        "source_precision": "q4_k_m",
        "threads": 2,
        "workload": "five",
        "prompt_tokens": 32,
        "output_tokens": 16,
    }
    return Case(**(fields | changes))  # type: ignore[arg-type]


def make_planned(case: Case | None = None, **changes: object) -> PlannedCase:
    fields: dict[str, object] = {
        "case": case or make_case(),
        "model": "gemma-3-270m",
        "base_model": True,
        "processes": 3,
        "iterations": 3,
        "min_seconds": 2,
        "warmup": 1,
    }
    return PlannedCase(**(fields | changes))  # type: ignore[arg-type]


def make_environment(**changes: object) -> Environment:
    facts = {"system": "Linux", "machine": "x86_64", "cpu_model": "Test CPU", "cpu_count": 2, "gpus": "", "python": "3.11.7"}
    return Environment(facts=facts | changes)


def make_request(
    request_id: str,
    *,
    index: int = 0,
    sent_s: float = 0.0,
    ttft_s: float = 0.1,
    tpot_s: float = 0.05,
    tokens: int = 16,
    **changes: object,
) -> Request:
    """A request whose tokens come one per event, the first after `ttft_s`, the others `tpot_s` apart."""
    times = tuple(sent_s + ttft_s + k * tpot_s for k in range(tokens))
    fields: dict[str, object] = {
        "request_id": request_id,
        "index": index,
        "prompt_index": index,
        "sent_at": START + timedelta(seconds=sent_s),
        "scheduled_s": sent_s,
        "sent_s": sent_s,
        "first_content_s": times[0],
        "last_content_s": times[-1],
        "event_times_s": times,
        "event_tokens": (1,) * tokens,
        "prompt_tokens": 32,
        "output_tokens": tokens,
        "token_source": "engine",
        "finish_reason": "length",
        "values": {"rss_bytes": 1.5e9, "rss_delta_bytes": 4096.0},
        "content_policy": "full",
        "prompt": "What is machine learning?",
        "output": "Machine learning is a field of study. It lets computers learn from data.",
    }
    return Request(**(fields | changes))  # type: ignore[arg-type]


def make_measurement(
    attempt_id: str, case: Case | None = None, *, run_id: str = "20260301-120000-aaaa", process: int = 0, tpot_s: float = 0.05,
    ttft_s: float = 0.1, iterations: int = 3, **changes: object,
) -> Measurement:  # fmt: skip
    requests = tuple(
        make_request(f"{attempt_id}-{i}", index=i, sent_s=float(i), tpot_s=tpot_s, ttft_s=ttft_s) for i in range(iterations)
    )
    fields: dict[str, object] = {
        "attempt_id": attempt_id,
        "run_id": run_id,
        "case_id": (case or make_case()).case_id,
        "process": process,
        "started_at": START + timedelta(minutes=process),
        "timing": "perf_counter",
        "requests": requests,
        "values": {"load_s": 2.0, "peak_rss_bytes": 1.6e9, "weights_bytes": 1.07e9},
        "warnings": (RowWarning(kind="cpu_contention", facts={"share": 0.12}),),
        "series": (Series(name="rss_bytes", unit="B", times_s=(0.0, 0.5, 1.0), values=(1.4e9, 1.5e9, 1.6e9)),),
    }
    return Measurement(**(fields | changes))  # type: ignore[arg-type]


def make_failure(attempt_id: str, case: Case | None = None, **changes: object) -> Failure:
    fields: dict[str, object] = {
        "attempt_id": attempt_id,
        "run_id": "20260301-120000-aaaa",
        "case_id": (case or make_case()).case_id,
        "process": 0,
        "started_at": START,
        "kind": "crash",
        "phase": "measure",
        "message": "The worker was killed by signal 9 (SIGKILL): see its last lines and run again with --resume.",
        "exit_code": -9,
        "stderr_tail": "loading weights\n",
    }
    return Failure(**(fields | changes))  # type: ignore[arg-type]


def make_run(*planned: PlannedCase, run_id: str = "20260301-120000-aaaa", **changes: object) -> Run:
    fields: dict[str, object] = {
        "run_id": run_id,
        "suite": "quickstart",
        "suite_hash": "0123456789abcdef",
        "suite_source": {"name": "quickstart"},
        "planned": planned or (make_planned(),),
        "seed": 7,
        "environment": make_environment(),
        "command": ("bench", "run", "quickstart"),
        "git_commit": "c0ffee0",
        "git_dirty": False,
        "started_at": START,
    }
    return Run(**(fields | changes))  # type: ignore[arg-type]


def make_report(
    *, run_id: str = "20260301-120000-aaaa", slower: float = 1.0, processes: int = 3, seed: int = 1, with_failure: bool = True,
    started_at: datetime = START,
) -> Report:  # fmt: skip
    """A finished run of four cases: fp32 and bf16 speed, one quality pass, and one case that crashed.

    Args:
        slower: factor on every time, for a run that became slower.
    """
    noise = random.Random(seed)
    cases = [make_case(output_tokens=16), make_case(output_tokens=16, dtype="bf16", quantization="bf16")]
    quality = make_case(purpose="quality", prompt_tokens=None, output_tokens=48, stop="eos")
    crashed = make_case(output_tokens=64)
    planned = [make_planned(case, processes=processes) for case in cases]
    planned += [make_planned(crashed, processes=processes, tags=("long",))]
    planned += [make_planned(quality, processes=1, scorers=("heuristic-v1",))]
    measurements = [
        make_measurement(
            f"{run_id}-m{number}{process}", case, run_id=run_id, process=process,
            started_at=started_at + timedelta(minutes=process),
            tpot_s=(0.1 if case.dtype == "fp32" else 0.06) * slower * noise.gauss(1, 0.005),
            ttft_s=0.3 * slower * noise.gauss(1, 0.005),
        )
        for number, case in enumerate(cases)
        for process in range(processes)
    ]  # fmt: skip
    judged = make_measurement(
        f"{run_id}-q", quality, run_id=run_id, started_at=started_at,
        warnings=(RowWarning(kind="base_model"),),
    )  # fmt: skip
    items = {"relevance": 1.0, "coherence": 0.7, "safety": 1.0, "factual_accuracy": 0.5}
    return Report(
        run=make_run(*planned, run_id=run_id, started_at=started_at),
        events=(RunEvent(run_id=run_id, at=started_at + timedelta(minutes=5), kind="finished"),),
        tags=("main",),
        measurements=(*measurements, judged),
        failures=(make_failure(f"{run_id}-f", crashed, run_id=run_id, started_at=started_at),) if with_failure else (),
        scores=tuple(
            Score(request_id=request.request_id, scorer="heuristic", version="v1", item=item, value=value)
            for request in judged.requests
            for item, value in items.items()
        ),
    )


def store_report(store: object, report: Report) -> None:
    """Put every part of a report into a store, as a run does."""
    store.add_run(report.run)  # type: ignore[attr-defined]
    for measurement in report.measurements:
        mine = {request.request_id for request in measurement.requests}
        store.add_measurement(measurement, [score for score in report.scores if score.request_id in mine])  # type: ignore[attr-defined]
    for failure in report.failures:
        store.add_failure(failure)  # type: ignore[attr-defined]
    for event in report.events:
        store.add_event(event)  # type: ignore[attr-defined]
    store.tag(report.run.run_id, report.tags)  # type: ignore[attr-defined]
