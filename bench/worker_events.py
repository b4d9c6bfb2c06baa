"""What a worker tells, event by event, becomes measurements and failures. Its process and its pipes are left to `bench.launch`."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, get_args

from bench.endings import told
from bench.surroundings import surroundings
from bench.worker import Job
from monitor.sampler import Sampler, Usage
from results.cases import PlannedCase
from results.format import plain
from results.records import Failure, FailureKind, Measurement, Request, RowWarning

WAITS = ("phase", "loaded", "case_started", "request", "requests", "case_done", "refused")
"""Events after which the worker waits until the parent has done its part: the parent sleeps while a request is timed."""
MEASURED = ("measure", "quality", "load", "train")
"""Phases in which the worker does what is counted: warm-ups are over."""

PREPARING = "prepare"
"""The phase between two cases, and before a training's first step."""


class WorkerEvents:
    """One worker's account of its job.

    Args:
        last_words: what the worker wrote to standard error since the phase began.
        kernel_killed: whether the kernel killed a process for memory since the worker began.
    """

    def __init__(
        self, job: Job, run_id: str, sampler: Sampler, now: Callable[[], datetime], last_words: Callable[[], str],
        kernel_killed: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._job, self._run_id, self._sampler, self._now = job, run_id, sampler, now
        self._last_words, self._kernel_killed = last_words, kernel_killed
        self.left = list(job.cases)
        """Cases that are neither measured nor refused; the first is in hand, or the next."""
        self.phase, self.progress = "start", (0, 0)
        self.in_case = False
        self._marked = False
        self._requests: list[Request] = []
        self._request_ids: set[str] = set()
        self._loaded: dict[str, float] | None = None
        self._loaded_rss: int | None = None
        self._started_at = now()

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    @property
    def doing(self) -> str:
        """What takes its time now, as the beginning of a sentence."""
        if self.in_case:
            return "The case"
        return "Making the case ready" if self.is_loaded else "The load"

    @property
    def in_hand(self) -> PlannedCase | None:
        """The case that is being measured."""
        return self.left[0] if self.in_case else None

    def take(self, event: dict[str, Any]) -> Measurement | Failure | None:
        """What this event completes.

        Raises:
            WorkerEnded: the worker says that it failed.
            KeyError, TypeError, ValueError, AttributeError, ArithmeticError: no event of ours.
        """
        name = event["event"]
        if name == "failed":
            if event["kind"] not in get_args(FailureKind):
                raise ValueError(f"unknown kind of failure {event['kind']!r}")
            raise told(event["kind"], plain(str(event["message"])), self._last_words(), kernel_killed=self._kernel_killed())
        if name == "phase":
            self.phase, self.progress = str(event["phase"]), (int(event["done"]), int(event["total"]))
            self._mark()
        elif name == "loaded":
            self._load(event)
        elif name == "case_started":
            if self._loaded is None or event["case_id"] != self._next().case.case_id:
                raise ValueError("not the case that was asked for")
            self._origin = float(event["origin"])
            self._started_at, self._requests, self.in_case = self._now(), [], True
            self.phase, self._marked = "warmup", False
            self._sampler.begin()
        elif name in ("request", "requests"):
            for one in event["requests"] if name == "requests" else [event["request"]]:
                self._add(Request.model_validate_json(json.dumps(one)))
        elif name == "case_done":
            if not self.in_case or not self._requests:
                raise ValueError("a case without requests")
            measurement = self._measurement(event, self._sampler.end())
            self._settle()
            return measurement
        elif name == "refused":
            return self._refused(str(event["case_id"]), plain(str(event["message"])))
        elif name != "hello":
            raise ValueError(f"unknown event {name!r}")
        return None

    def failures(self, kind: FailureKind, message: str, code: int | None, stderr: str) -> Iterator[Failure]:
        """Of the case in hand, or, when the load has failed, of every case that it failed for."""
        for planned in self.left[:1] if self.is_loaded else self.left:
            yield self._failure(planned, kind, message, exit_code=code, stderr_tail=stderr, requests=tuple(self._requests))

    def _mark(self) -> None:
        """What is counted begins once in a case: a load tells again and again that no request has ended yet."""
        if self.phase in MEASURED and not self._marked and (planned := self.in_hand):
            self._marked = True
            self._sampler.mark(None if planned.case.target else planned.case.device)

    def _load(self, event: dict[str, Any]) -> None:
        self._loaded = {str(key): float(value) for key, value in event["values"].items()}
        if event.get("server_pid") is not None:
            self._sampler.watch_apart(int(event["server_pid"]))
        if (peak := self._sampler.highest_rss_bytes()) is not None:
            self._loaded["load_peak_rss_bytes"] = float(peak)
        self._sampler.begin()
        self._loaded_rss = self._sampler.end().start_rss_bytes
        self._prepare()

    def _add(self, request: Request) -> None:
        if request.request_id in self._request_ids:
            raise ValueError(f"request {request.request_id} twice")
        self._request_ids.add(request.request_id)
        self._requests.append(request)

    def _next(self) -> PlannedCase:
        if not self.left:
            raise ValueError("more cases than were asked for")
        return self.left[0]

    def _settle(self) -> None:
        self.left.pop(0)
        self._prepare()

    def _prepare(self) -> None:
        """The worker makes the next case ready."""
        self.in_case, self.phase, self._requests, self._started_at = False, PREPARING, [], self._now()

    def _refused(self, case_id: str, message: str) -> Failure:
        if self.is_loaded:
            in_hand = self._next()
            if in_hand.case.case_id != case_id:
                raise ValueError("a case refused that is not in hand")
            failure = self._failure(in_hand, "unsupported", message, requests=tuple(self._requests))
            self._settle()
            return failure
        planned = next((one for one in self.left if one.case.case_id == case_id), None)
        if planned is None:
            raise ValueError("a case refused that was not asked for")
        self.left.remove(planned)
        return self._failure(planned, "unsupported", message)

    def _failure(self, planned: PlannedCase, kind: FailureKind, message: str, **more: Any) -> Failure:
        return Failure(
            attempt_id="f" + uuid.uuid4().hex[:15],
            run_id=self._run_id,
            case_id=planned.case.case_id,
            process=self._job.process,
            started_at=self._started_at,
            kind=kind,
            phase=self.phase,
            message=message,
            **more,
        )

    def _measurement(self, event: dict[str, Any], usage: Usage) -> Measurement:
        planned = self.left[0]
        values = {**(self._loaded or {}), **{str(key): float(value) for key, value in event["values"].items()}}
        warnings = [RowWarning.model_validate(one) for one in event["warnings"]]
        return Measurement(
            attempt_id="m" + uuid.uuid4().hex[:15],
            run_id=self._run_id,
            case_id=planned.case.case_id,
            process=self._job.process,
            started_at=self._started_at,
            timing=str(event["timing"]),
            requests=tuple(self._requests),
            values=values | used(planned, usage, values),
            facts={"energy_method": usage.energy_method} if usage.energy_method else {},
            warnings=tuple([*warnings, *surroundings(planned, usage, self._loaded_rss)]),
            series=usage.series(self._origin),
        )


def used(planned: PlannedCase, usage: Usage, told: dict[str, float]) -> dict[str, float]:
    """What the sampler saw and the plan says, as metrics by name.

    Args:
        told: by the worker, which under load knows its clients' exact peaks: samples can miss them.
    """
    values: dict[str, float] = {}
    if planned.case.target is None:
        values |= {"start_rss_bytes": float(usage.start_rss_bytes), "peak_rss_bytes": float(usage.peak_rss_bytes)}
    if (client := usage.peak_rss_bytes if planned.case.target else usage.beside_peak_rss_bytes) is not None:
        values["client_peak_rss_bytes"] = max(float(client), told.get("client_peak_rss_bytes", 0.0))
    if usage.peak_pss_bytes is not None and planned.case.target is None:
        values["peak_pss_bytes"] = float(usage.peak_pss_bytes)
    if usage.peak_device_bytes is not None:
        values["peak_device_bytes"] = float(usage.peak_device_bytes)
    if planned.estimate:
        values["estimated_bytes"] = float(planned.estimate.total_bytes)
    if planned.price_per_hour:
        values["price_per_hour"] = planned.price_per_hour
    if usage.energy_j is not None:
        values["energy_j"] = usage.energy_j
    return values
