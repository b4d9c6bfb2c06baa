"""The child process: loads one model, measures its cases, and says so as JSON lines on its own pipe.

The job comes as the first line on standard input; later lines are acknowledgements. When standard input closes, the
parent is gone and the worker ends, with all of its children. What libraries print goes to standard error.
"""

import contextlib
import faulthandler
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import BaseModel, ConfigDict

from bench.channel import Channel
from bench.classify import EngineDiedError, EngineFailedError, StoppedError, classify
from bench.context import context_of
from bench.engines.protocol import Server, Source, Support
from bench.page_cache import cached_share
from bench.preparing import be_first_to_go
from bench.trace import replayed
from bench.workloads import Prompts
from results.cases import Case, PlannedCase
from results.records import Request, RowWarning

if TYPE_CHECKING:
    from bench.engines.protocol import Engine, Session
    from bench.measure import Instruments

LINE_BYTES = 2**20
"""Requests go to the parent in lines of about this length; it takes longer ones for a worker gone mad."""


SWITCHES = frozenset(
    {
        "batch", "depth", "sampling", "training", "draft", "attention", "compile_mode", "kv_cache", "kv_dtype", "tensor_parallel",
        "adapter", "prompt_cache",
    }
)  # fmt: skip
"""Fields of a case that only some engines can do: `Support.switches` names those of an engine."""
SWITCH_WORDS = {
    "compile_mode": "compile", "training": "fine-tuning", "draft": "speculative decoding", "prompt_cache": "prompt cache",
}  # fmt: skip


class Job(BaseModel):
    """What a worker is asked to do: one load, and its cases in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: Path | None = None
    """The folder or file with the weights; `None` where a server has them."""
    architecture: dict[str, Any] | None = None
    """The configuration of a model whose weights are drawn at random."""
    draft: Path | None = None
    """The weights of the model that drafts."""
    adapter: Path | None = None
    server: Server | None = None
    """One that somebody else started."""
    process: int
    cases: tuple[PlannedCase, ...]
    prompts: dict[str, Prompts]
    """By `Case.workload`."""
    warmup: Prompts
    seed: int = 0
    """The run's: arrivals and prompts are drawn from it."""
    trace: Path | None = None
    trace_speed: float = 1.0


def main() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    channel = Channel(_own_pipe(), sys.stdin)
    be_first_to_go()
    line = channel.first()
    if not line:
        return
    job = Job.model_validate_json(line)
    channel.listen()
    channel.send("hello", pid=os.getpid())
    try:
        run(job, channel)
    except Exception as error:  # noqa: BLE001 every failure of an engine is a result: it is classified, sent and stored
        traceback.print_exc()
        kind, message = classify(error, job.cases[0].case.engine)
        channel.send("failed", kind=kind, message=message)
    channel.send("bye")
    sys.stderr.flush()
    os._exit(0)


def run(job: Job, channel: Channel) -> None:
    """Load, then measure each case."""
    from bench.engines import make_engine
    from bench.engines.protocol import UnsupportedError

    channel.ask("phase", phase="load", done=0, total=1)
    with contextlib.ExitStack() as opened:
        with _stack_before(job.cases[0].timeout_s):
            start = time.perf_counter()
            engine = make_engine(job.cases[0].case.engine)
            import_s = time.perf_counter() - start
            job = _able(job, engine, channel)
            if not job.cases:
                return
            cached = cached_share(job.source)
            start = time.perf_counter()
            session = engine.load(source_of(job), job.cases[0].case)
            load_s = time.perf_counter() - start
            opened.callback(session.close)
            values = {"import_s": import_s, "load_s": load_s} | ({} if cached is None else {"load_cached_share": cached})
            tools = _first_call(session, values, job, channel)
        for planned in job.cases:
            try:
                _measure_case(session, planned, job, tools, channel)
            except UnsupportedError as error:  # which costs no other case of this load
                channel.ask("refused", case_id=planned.case.case_id, message=classify(error, planned.case.engine)[1])


def _able(job: Job, engine: "Engine", channel: Channel) -> Job:
    """The job without the cases that the engine refuses, of which the parent is told."""
    able = []
    for planned in job.cases:
        if reason := refusal(planned.case, engine.support) or engine.refuse(planned.case):
            channel.ask("refused", case_id=planned.case.case_id, message=reason)
        else:
            able.append(planned)
    return job.model_copy(update={"cases": tuple(able)})


def _first_call(session: "Session", values: dict[str, float], job: Job, channel: Channel) -> "Instruments":
    """The first call and the calibrations; what they and the load took is told."""
    from bench.engines.protocol import Served
    from bench.measure import Instruments, calibrate, first_call_s, mark_of, own_rss_reader, utc_now

    first, tools = job.cases[0], Instruments(time.perf_counter, utc_now, own_rss_reader())
    channel.ask("phase", phase="first call", done=0, total=1)
    mark = mark_of(job.seed, first.case, job.process, "first call")
    values["first_call_s"] = first_call_s(session, job.warmup, first, time.perf_counter, mark)
    values |= calibrate(time.perf_counter, tools)
    if any(planned.case.load for planned in job.cases):
        from bench.load import calibrate_client

        channel.ask("phase", phase="calibration", done=0, total=1)
        values |= calibrate_client(time.perf_counter)
    gc.collect()
    gc.freeze()
    channel.ask("loaded", values=values, server_pid=session.server_pid if isinstance(session, Served) else None)
    return tools


def refusal(case: Case, able: Support) -> str | None:
    """Why an engine that can do so much cannot do this case."""
    if case.load and not able.concurrent:
        return f"{case.engine} takes one request at a time: choose an engine that is a server, such as llamacpp-server."
    if case.device not in able.devices:
        return f"{case.engine} does not run on {case.device}: choose {' or '.join(able.devices)}."
    if not {case.quantization, "as stored", "as served"} & set(able.quantizations):
        return f"{case.engine} takes no {case.quantization} weights: choose {' or '.join(able.quantizations)}."
    if case.batch > 1 and able.concurrent:
        return f"{case.engine} forms batches itself: give concurrency instead of batch."
    for name in sorted(SWITCHES - able.switches):
        if getattr(case, name) != Case.model_fields[name].default:
            return (
                f"{case.engine} has no {SWITCH_WORDS.get(name, name)}: leave it out, or choose another engine (`bench engines`)."
            )
    if case.has_random_weights and not able.random_weights:
        return f"{case.engine} makes no random weights: name a model with weights, or choose the engine transformers."
    if case.log_probabilities and not able.log_probabilities:
        return f"{case.engine} gives no log-probabilities: leave log_probabilities out, or choose an engine such as llamacpp."
    return None


def source_of(job: Job) -> Source:
    """What the job's session is made from."""
    planned = job.cases[0]
    return Source(
        weights=job.source,
        architecture=job.architecture,
        draft=job.draft,
        adapter=job.adapter,
        server=job.server,
        model=planned.case.weights.removeprefix("served:"),
        context_tokens=planned.context_tokens or context_of(planned.case),
        request_timeout_s=planned.request_timeout_s,
    )


def _measure_case(session: "Session", planned: PlannedCase, job: Job, tools: "Instruments", channel: Channel) -> None:
    channel.ask("phase", phase="prepare", done=0, total=1)
    with _stack_before(planned.timeout_s):
        session.begin(planned.case)
        gc.collect()
    channel.ask("case_started", case_id=planned.case.case_id, origin=(origin := time.perf_counter()))
    with _stack_before(planned.timeout_s):
        _measure_begun(session, planned, job, tools, channel, origin)


def _measure_begun(
    session: "Session", planned: PlannedCase, job: Job, tools: "Instruments", channel: Channel, origin: float
) -> None:
    from bench.measure import measure, request_warnings

    case = planned.case
    requests: list[Request] = []

    def phase(name: str, done: int, total: int) -> None:
        channel.ask("phase", phase=name, done=done, total=total)

    prompts = job.prompts[case.workload]
    values: dict[str, float] = {}
    warnings: list[RowWarning] = []
    if case.load:
        values, warnings = _measure_load(session, planned, job, tools, channel, origin, requests, phase)
    elif case.training:
        from bench.finetune import measure_training

        def trained(step: Request) -> None:
            requests.append(step)
            channel.ask("request", request=step.model_dump(mode="json"))

        measure_training(session, planned, job.process, job.seed, origin, tools, phase, trained)
    else:
        for request in measure(session, planned, job.process, prompts, job.warmup, origin, tools, phase, seed=job.seed):
            requests.append(request)
            channel.ask("request", request=request.model_dump(mode="json"))
            _check_alive(session)
        if all(request.error for request in requests):
            raise EngineFailedError(f"Every request failed ({requests[-1].error}).")
        warnings = request_warnings(planned, session, requests)
    channel.ask(
        "case_done",
        timing=session.timing,
        values=session.values() | values,
        warnings=[one.model_dump(mode="json") for one in warnings],
    )


def _measure_load(
    session: "Session", planned: PlannedCase, job: Job, tools: "Instruments", channel: Channel, origin: float,
    requests: list[Request], phase: Callable[[str, int, int], None],
) -> tuple[dict[str, float], list[RowWarning]]:  # fmt: skip
    from bench.engines.protocol import Served, UnsupportedError
    from bench.load import measure_load

    if not isinstance(session, Served):
        raise UnsupportedError(
            "the engine says that it can be put under load, but its session is no server's: report it to its author."
        )
    trace = replayed(job.trace, planned, speed=job.trace_speed) if job.trace else None
    outcome = measure_load(
        session, planned, job.process, job.prompts[planned.case.workload], job.warmup, origin, tools, phase, seed=job.seed, trace=trace,
        stopped=channel.stopped.is_set,
    )  # fmt: skip
    requests.extend(outcome.requests)
    for lot in lots((one.model_dump(mode="json") for one in requests), LINE_BYTES):
        channel.ask("requests", requests=lot)
    if channel.stopped.is_set():
        raise StoppedError
    if outcome.broken:
        raise EngineDiedError(f"{outcome.broken} See its last lines, then `bench run --resume … --retry-failed`.")
    if all(request.error for request in requests):
        raise EngineFailedError(f"Every request failed ({requests[-1].error}).")
    return outcome.values, list(outcome.warnings)


def lots(requests: Iterable[dict[str, Any]], most_bytes: int) -> Iterator[list[dict[str, Any]]]:
    """Requests in their order, in lots whose JSON is no longer than this, unless a single one is."""
    lot: list[dict[str, Any]] = []
    size = 0
    for request in requests:
        length = len(json.dumps(request))
        if lot and size + length > most_bytes:
            yield lot
            lot, size = [], 0
        lot.append(request)
        size += length
    if lot:
        yield lot


def _check_alive(session: "Session") -> None:
    from bench.engines.protocol import Served

    if isinstance(session, Served) and (why := session.alive()):
        raise EngineDiedError(f"{why} See its last lines, then `bench run --resume … --retry-failed`.")


@contextlib.contextmanager
def _stack_before(timeout_s: float) -> Iterator[None]:
    """Leave the stacks of all threads on standard error shortly before the parent's deadline: why it hung."""
    faulthandler.dump_traceback_later(max(0.1, timeout_s * 0.98), file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _own_pipe() -> TextIO:
    """Standard output as the event pipe; what anything prints from now on goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return events


if __name__ == "__main__":
    main()
