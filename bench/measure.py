"""How one case becomes timed requests, inside the worker: warm up, then time; only raw times leave. Memory is read from outside."""

import os
import statistics
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from bench.engines.protocol import Batched, Clock, Generation, Served, Session, UnsupportedError
from bench.request_warnings import cache_hits, early_stop, prompt_count, request_errors, uneven_events
from bench.workloads import Prompt, Prompts, quality_prompt, speed_prompt
from results.cases import Case, PlannedCase
from results.record import digest
from results.records import Request, RowWarning

FIRST_CALL_TOKENS = 32
WARMUP_TOKENS = 8
"""A warm-up generates no more than this: what settles does so in the first steps, and long cases would pay for it most."""
CALIBRATION_TOKENS = 256


@dataclass(frozen=True)
class Instruments:
    """The outside world as the measurement sees it."""

    clock: Clock
    """Monotonic seconds, shared with the parent that samples."""
    now: Callable[[], datetime]
    rss_bytes: Callable[[], int]


def measure(
    session: Session, planned: PlannedCase, process: int, prompts: Prompts, warmup: Prompts, origin: float, tools: Instruments,
    phase: Callable[[str, int, int], None], *, seed: int = 0,
) -> Iterator[Request]:  # fmt: skip
    """Warm up and yield the counted requests of one case as they finish.

    Args:
        process: the round, so that no two processes ask the same prompt.
        origin: the clock's value that the requests' times count from.
        phase: told (phase, requests done, requests at the least).
        seed: the run's, so that no two runs ask the same prompt of one server.
    """
    case = planned.case
    mark, warmup_mark = mark_of(seed, case, process), mark_of(seed, case, process, "warmup")
    lengths = (case.prompt_tokens, case.prompt_format, session.encode, session.decode)
    for number in range(planned.warmup if case.purpose == "speed" else 0):
        phase("warmup", number, planned.warmup)
        asked = [speed_prompt(warmup, number * case.batch + more, warmup_mark, *lengths) for more in range(case.batch)]
        generate(session, asked, min(case.output_tokens, WARMUP_TOKENS), case.stop, tools.clock)
    started = tools.clock()
    number = failed = 0
    while number < planned.iterations * case.batch or tools.clock() - started < planned.min_seconds:
        phase("measure" if case.purpose == "speed" else "quality", number // case.batch, planned.iterations)
        if case.purpose == "speed":
            asked = [speed_prompt(prompts, number + more, mark, *lengths) for more in range(case.batch)]
        else:
            asked = [quality_prompt(prompts, number, case.prompt_format, session.encode)]
        for one in requests(session, planned, asked, number, origin, tools):
            yield one
            number, failed = number + 1, failed + 1 if one.error else 0
        if failed >= planned.give_up_after:
            return


def mark_of(seed: int, case: Case, process: int, phase: str = "measure") -> str:
    """What tells the prompts of this run, case, process and phase from all others: always eight digits, so that the texts behind
    it are mostly cut alike."""
    return f"{int(digest([seed, case.case_id, process, phase]), 16) % 10**8:08d}"


def generate(
    session: Session, prompts: Sequence[Prompt], output_tokens: int, stop: Literal["length", "eos"], clock: Clock
) -> list[Generation]:
    """One generation per prompt: together where there are several.

    Raises:
        UnsupportedError: the session takes one prompt at a time.
    """
    if len(prompts) == 1:
        return [session.generate(prompts[0], output_tokens, stop, clock)]
    if not isinstance(session, Batched):
        raise UnsupportedError("the engine says that it can batch, but its session cannot: report it to its author.")
    return session.generate_batch(prompts, output_tokens, stop, clock)


def requests(
    session: Session, planned: PlannedCase, prompts: Sequence[Prompt], first: int, origin: float, tools: Instruments
) -> list[Request]:
    """One timed request, or a batch of them; everything but the generation lies outside their times.

    Args:
        first: index of the first one in the case.
    """
    rss_before = tools.rss_bytes()
    sent_at = tools.now()
    generations = generate(session, prompts, planned.case.output_tokens, planned.case.stop, tools.clock)
    rss_after = tools.rss_bytes()
    own = {} if isinstance(session, Served) else {"rss_bytes": float(rss_after), "rss_delta_bytes": float(rss_after - rss_before)}
    if len(prompts) > 1:
        own["batch_tps"] = batch_tps(generations)
    found = []
    for index, (prompt, generation) in enumerate(zip(prompts, generations, strict=True), first):
        uneven = {"uneven_events": 1.0} if generation.uneven else {}
        found.append(record(generation, prompt, index, origin, sent_at, own | generation.values | uneven))
    return found


def batch_tps(generations: Sequence[Generation]) -> float:
    """Output tokens of all sequences of a batch per second, from when it was sent to its last event."""
    end = max(time for one in generations for time in one.event_times)
    return sum(one.output_tokens or 0 for one in generations) / (end - generations[0].sent)


def record(
    generation: Generation, prompt: Prompt, index: int, origin: float, sent_at: datetime, values: dict[str, float],
    scheduled: float | None = None,
) -> Request:  # fmt: skip
    """A generation as a record, its times from `origin` on; `scheduled` is the time it was sent unless given."""
    times = tuple(time - origin for time in generation.event_times)
    sent = generation.sent - origin
    content = [time for time, tokens in zip(generation.event_times, generation.event_tokens, strict=True) if tokens > 0]
    if generation.error or "first_reasoning_s" in generation.values:
        content = []  # what came were thoughts, or cannot be told from them
    first = generation.first_content if generation.first_content is not None else next(iter(content), None)
    last = generation.last_content if generation.last_content is not None else next(reversed(content), None)
    return Request(
        request_id="q" + uuid.uuid4().hex[:15],
        index=index,
        prompt_index=prompt.index,
        sent_at=sent_at,
        scheduled_s=sent if scheduled is None else scheduled - origin,
        sent_s=sent,
        first_content_s=None if first is None else first - origin,
        last_content_s=None if last is None else last - origin,
        event_times_s=times,
        event_tokens=generation.event_tokens,
        prompt_tokens=generation.prompt_tokens,
        output_tokens=generation.output_tokens,
        token_source=generation.token_source,
        finish_reason="error" if generation.error else generation.finish_reason,
        error=generation.error,
        values=values,
        content_policy="full",
        prompt=prompt.text,
        output=generation.text,
    )


def first_call_s(session: Session, warmup: Prompts, planned: PlannedCase, clock: Clock, mark: str) -> float:
    """Seconds of the first request after the load: a prompt of 32 tokens and one new token, the same for every case.

    Args:
        mark: that the prompt begins with, as `mark_of` makes it.
    """
    tokenizes = planned.case.prompt_format == "plain" and bool(session.encode("Hello", "plain"))
    length = FIRST_CALL_TOKENS if tokenizes else None
    prompt = speed_prompt(warmup, 0, mark, length, planned.case.prompt_format, session.encode, session.decode)
    start = clock()
    session.generate(prompt, 1, "length", clock)
    return clock() - start


def request_warnings(planned: PlannedCase, session: Session, measured: list[Request]) -> list[RowWarning]:
    """What the requests tell that may have spoiled the row, texts that re-tokenize to another length among it."""
    case = planned.case
    done = [one for one in measured if not one.error]
    wanted = case.prompt_tokens if case.purpose == "speed" else None
    found = [
        request_errors(measured),
        early_stop(case, [(case.output_tokens, one) for one in done]),
        uneven_events(sum("uneven_events" in one.values for one in measured)),
        prompt_count((wanted, one) for one in done),
        cache_hits(case, done),
        _token_mismatch(session, [one for one in done if one.output_tokens is not None]),
    ]
    return [warning for warning in found if warning]


def _token_mismatch(session: Session, requests: list[Request]) -> RowWarning | None:
    counts = [(one.output_tokens or 0, session.recount(one.output or "")) for one in requests]
    wrong = [(count, recount) for count, recount in counts if recount is not None and abs(count - recount) > max(1, 0.05 * count)]
    if not wrong:
        return None
    return RowWarning(kind="token_mismatch", facts={"requests": len(wrong), "count": wrong[0][0], "recount": wrong[0][1]})


class NoTime:
    """A session that takes no time: what is measured over it is the harness itself."""

    timing = "perf_counter"

    def __init__(self, step: Callable[[], object]) -> None:
        self._step = step

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        sent = clock()
        times = []
        for _ in range(output_tokens):
            self._step()
            times.append(clock())
        return Generation(sent, tuple(times), (1,) * output_tokens, len(prompt.token_ids), output_tokens, "", "length")


def calibrate(clock: Clock, tools: Instruments) -> dict[str, float]:
    """The harness's own cost, medians of nine tries against an engine that takes no time.

    Returns:
        `harness_token_s`: clock and bookkeeping per token; `harness_request_s`: per request, outside its times.
    """
    session = NoTime(lambda: None)
    prompt = Prompt(0, "", ())
    per_token, per_request = [], []
    for _ in range(9):
        start = clock()
        before = tools.rss_bytes()
        sent_at = tools.now()
        generation = session.generate(prompt, CALIBRATION_TOKENS, "length", clock)
        inside = generation.event_times[-1] - generation.sent
        values = {"rss_delta_bytes": float(tools.rss_bytes() - before)}
        record(generation, prompt, 0, start, sent_at, values)
        per_token.append(inside / CALIBRATION_TOKENS)
        per_request.append(clock() - start - inside)
    return {"harness_token_s": statistics.median(per_token), "harness_request_s": statistics.median(per_request)}


def utc_now() -> datetime:
    return datetime.now(UTC)


def own_rss_reader() -> Callable[[], int]:
    """A cheap reader of this process's resident bytes."""
    try:
        statm = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115, PTH123 kept open: one read per request
    except OSError:
        import psutil

        process = psutil.Process()
        return lambda: int(process.memory_info().rss)
    page = os.sysconf("SC_PAGE_SIZE")

    def read() -> int:
        statm.seek(0)
        return int(statm.read(128).split()[1]) * page

    return read
