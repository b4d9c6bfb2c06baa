"""A run of a serving sweep with exact numbers: a queue before a server of four slots, worked out without a clock."""

import heapq
import random
from datetime import datetime, timedelta

from fakes import START, make_case, make_measurement, make_planned, make_request, make_run

from results.cases import Load, PlannedCase
from results.records import Measurement, Report, Request, RowWarning, RunEvent

LOAD_RUN = "20260303-120000-cccc"
LIMITS = "ttft_s<0.5 and tpot_s<0.05"
SLOTS = 4
CAPACITY = 6.0
"""About how many requests per second the server can serve."""
LOADS = (
    *(Load(arrivals="closed", concurrency=count) for count in (1, 32)),
    *(Load(arrivals="poisson", rate=rate) for rate in (2.0, 3.0, 4.0, 5.0, 8.0)),
)


def make_load_requests(attempt_id: str, load: Load, *, count: int = 240, seed: int = 1) -> tuple[Request, ...]:
    """Requests that wait for one of the slots; the more slots are busy, the slower is each token."""
    noise = random.Random(f"{seed} {load.label}")
    free, users = [0.0] * SLOTS, [0.0] * (load.concurrency or 0)
    arrival, requests = 0.0, []
    for index in range(count):
        arrival = heapq.heappop(users) if users else arrival + noise.expovariate(load.rate or 1.0)
        begin = max(arrival, heapq.heappop(free))
        busy = 1 + sum(time > begin for time in free)
        request = make_request(
            f"{attempt_id}-{index}", index=index, sent_s=arrival,
            ttft_s=begin - arrival + 0.08 * noise.gauss(1, 0.05), tpot_s=0.03 * (1 + 0.08 * busy) * noise.gauss(1, 0.05),
        )  # fmt: skip
        end = request.last_content_s or begin
        heapq.heappush(free, end)
        if load.concurrency:
            heapq.heappush(users, end)
        requests.append(request)
    return tuple(requests)


def fail(request: Request, kind: str) -> Request:
    """The same request, but nothing came."""
    nothing: dict[str, object] = {
        "first_content_s": None, "last_content_s": None, "event_times_s": (), "event_tokens": (), "output_tokens": None,
        "finish_reason": "error", "error": f"{kind}: as the test wants it",
    }  # fmt: skip
    return request.model_copy(update=nothing)


def make_load_measurement(planned: PlannedCase, *, run_id: str = LOAD_RUN, process: int = 0, count: int = 240) -> Measurement:
    load = planned.case.load or Load(arrivals="closed", concurrency=1)
    attempt_id = f"{run_id}-{planned.case.case_id}-{process}"
    requests = make_load_requests(attempt_id, load, count=count, seed=process + 1)
    over = load.rate is not None and load.rate > CAPACITY
    if over:
        requests = tuple(fail(one, "timeout") if one.index in (count // 2, count - 3) else one for one in requests)
    good = sum(_keeps_limits(one) for one in requests)
    values = {"goodput_rps": good / max(one.last_content_s or one.sent_s for one in requests)}
    if load.rate is not None:
        values |= {"arrivals_ok": 1.0, "over_saturated": float(over)}
    kinds = (RowWarning(kind="over_saturated"), RowWarning(kind="request_errors", facts=_failed(requests))) if over else ()
    return make_measurement(
        attempt_id, planned.case, run_id=run_id, process=process, requests=requests, values=values, warnings=kinds, series=()
    )


def make_load_report(
    *, run_id: str = LOAD_RUN, processes: int = 1, count: int = 240, limits: str | None = LIMITS,
    quantizations: tuple[str, ...] = ("q4_k_m",), started_at: datetime = START + timedelta(days=2),
) -> Report:  # fmt: skip
    """A finished run: every load of `LOADS` on each quantization. Above `CAPACITY` two requests of each process time out."""
    planned = [
        make_planned(
            make_case(engine="llamacpp", quantization=level, source_precision=None, slots=SLOTS, load=load),
            processes=processes, limits=limits,
        )
        for level in quantizations
        for load in LOADS
    ]  # fmt: skip
    return Report(
        run=make_run(
            *planned, run_id=run_id, suite="serving-sweep", started_at=started_at, command=("bench", "run", "serving-sweep")
        ),
        events=(RunEvent(run_id=run_id, at=started_at + timedelta(minutes=5), kind="finished"),),
        measurements=tuple(
            make_load_measurement(one, run_id=run_id, process=process, count=count)
            for one in planned
            for process in range(processes)
        ),
    )


def _keeps_limits(request: Request) -> bool:
    if request.first_content_s is None or request.last_content_s is None:
        return False
    tpot = (request.last_content_s - request.first_content_s) / 15
    return request.first_content_s - request.sent_s < 0.5 and tpot < 0.05


def _failed(requests: tuple[Request, ...]) -> dict[str, str | int | float | bool | None]:
    return {"failed": sum(bool(one.error) for one in requests), "requests": len(requests), "kinds": "timeout"}
