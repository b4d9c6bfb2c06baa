"""A run from its plan to its end: prepare the weights, launch the workers in order, store every result as it comes."""

import signal
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.cache import cache_folder
from bench.contents import keeper
from bench.engines import support
from bench.engines.protocol import Server
from bench.launch import Outside, launch
from bench.plan import Plan
from bench.schedule import DECIDED, Batch, pending, rounds
from bench.serving_sweep import further_cases
from bench.weights import Form, Progress, ResolvedModel
from bench.worker import Job
from bench.workloads import Prompts, load_prompts
from results.cases import PlannedCase
from results.errors import GemmeterError
from results.records import ContentPolicy, Failure, Measurement, Request, Run, RunEvent, Score
from results.scorers import score_request
from results.store import Store

Outcome = Measurement | Failure


class Listener(Protocol):
    """Whoever shows how a run goes on."""

    def preparing(self, model: ResolvedModel, step: str, done: float | None) -> None: ...

    def phase(self, planned: PlannedCase | None, phase: str, done: int, total: int) -> None: ...

    def outcome(self, planned: PlannedCase, outcome: Outcome) -> None: ...

    def more(self, measurements: int) -> None:
        """So many more than were known at the start."""


Launch = Callable[[Job, str, Callable[[PlannedCase | None, str, int, int], None]], Iterator[Outcome]]
Prepare = Callable[[ResolvedModel, Progress, Form, str | None], Path | None]


@dataclass(frozen=True)
class Needed:
    """Weights in the form that an engine loads."""

    weights: str
    form: Form
    level: str | None
    """Of a GGUF file's weights; `None`: as stored, or made by the engine."""


@dataclass(frozen=True)
class Content:
    """What is kept of prompts and outputs."""

    policy: ContentPolicy
    keep: Callable[[str], str | None]

    def of(self, request: Request) -> Request:
        if self.policy == "full":
            return request
        changes = {
            "content_policy": self.policy,
            "prompt": None if request.prompt is None else self.keep(request.prompt),
            "output": None if request.output is None else self.keep(request.output),
        }
        return request.model_copy(update=changes)


@dataclass(frozen=True)
class Sweep:
    """One run's parts; `go` measures."""

    run: Run
    models: Mapping[str, ResolvedModel]
    """By `Case.weights`."""
    prompts: Mapping[str, Prompts]
    """By `Case.workload`."""
    warmup: Prompts
    content: Content
    store: Store
    prepare: Prepare
    launch: Launch
    listener: Listener
    servers: Mapping[str, Server] = field(default_factory=dict)
    """By `Case.target`."""
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """By `Case.adapter`."""
    trace: Path | None = None
    trace_speed: float = 1.0

    def go(self, batches: Sequence[Batch]) -> None:
        """Measure the batches in their order; each outcome is stored before the next case begins."""
        sources: dict[Needed, Path | None] = {}
        given_up: set[str] = set()
        for needed in dict.fromkeys(one for batch in batches for planned in batch.cases for one in _needed(planned)):
            model = self.models[needed.weights]
            try:
                sources[needed] = self.prepare(model, partial(self.listener.preparing, model), needed.form, needed.level)
            except GemmeterError as error:
                given_up |= self._unprepared(needed, batches, error)
        for batch in batches:
            left = [one for one in batch.cases if one.case.case_id not in given_up]
            while left:
                job = self._job(batch.process, left, [sources[one] for one in _needed(left[0])])
                settled = set()
                for outcome in self.launch(job, self.run.run_id, self.listener.phase):
                    self._keep(outcome)
                    settled.add(outcome.case_id)
                    if isinstance(outcome, Failure) and outcome.kind in DECIDED:
                        given_up.add(outcome.case_id)
                left = [one for one in left if one.case.case_id not in settled] if settled else []

    def _job(self, process: int, cases: Sequence[PlannedCase], sources: Sequence[Path | None]) -> Job:
        case = cases[0].case
        target = case.target
        return Job(
            source=sources[0],
            architecture=self.models[case.weights].architecture,
            draft=sources[1] if case.draft else None,
            adapter=self.adapters[case.adapter] if case.adapter else None,
            server=self.servers[target] if target else None,
            process=process,
            cases=tuple(cases),
            prompts={one.case.workload: self.prompts[one.case.workload] for one in cases},
            warmup=self.warmup,
            seed=self.run.seed,
            trace=self.trace,
            trace_speed=self.trace_speed,
        )

    def _unprepared(self, needed: Needed, batches: Sequence[Batch], error: GemmeterError) -> set[str]:
        """Store a failure for every case that is still to measure and whose weights could not be had."""
        left = [(one, batch.process) for batch in batches for one in batch.cases if needed in _needed(one)]
        firsts = {planned.case.case_id: (planned, process) for planned, process in reversed(left)}
        for planned, process in firsts.values():
            self._keep(
                Failure(
                    attempt_id="f" + uuid.uuid4().hex[:15],
                    run_id=self.run.run_id,
                    case_id=planned.case.case_id,
                    process=process,
                    started_at=datetime.now(UTC),
                    kind=getattr(error, "kind", "missing_weights"),
                    phase="prepare",
                    message=str(error),
                )
            )
        return set(firsts)

    def _keep(self, outcome: Outcome) -> None:
        planned = self.run.plan_of(outcome.case_id)
        kept = outcome.model_copy(update={"requests": tuple(self.content.of(one) for one in outcome.requests)})
        if isinstance(kept, Measurement):
            self.store.add_measurement(kept, self._scores(planned, outcome.requests))
        else:
            self.store.add_failure(kept)
        self.listener.outcome(planned, kept)

    def _scores(self, planned: PlannedCase, requests: Sequence[Request]) -> list[Score]:
        prompts = self.prompts[planned.case.workload]
        return [
            score
            for scorer in planned.scorers
            for request in requests
            for score in score_request(scorer, request, prompts.reference(request.prompt_index))
        ]


def _needed(planned: PlannedCase) -> list[Needed]:
    """The weights of the model, then those of the model that drafts."""
    case, form = planned.case, support(planned.case.engine).weights
    level = case.quantization if form == "gguf" else None
    return [Needed(case.weights, form, level), *([Needed(case.draft, form, None)] if case.draft else [])]


def measure_plan(plan: Plan, store: Store, prepare: Prepare, listener: Listener) -> None:
    """Measure what a plan leaves to do and store how it ended; interruption by a signal is an ending like any other.

    The caller holds the run (`bench.holding`).
    """
    run = plan.run
    sweep = Sweep(
        run=run,
        models=plan.expansion.models,
        prompts=plan.expansion.prompts,
        warmup=load_prompts("warmup"),
        content=Content(plan.suite.content, keeper(plan.suite.content, cache_folder() / "content-key")),
        store=store,
        prepare=prepare,
        launch=lambda job, run_id, listen: launch(job, run_id, listen, Outside(logs=cache_folder() / "logs" / run_id)),
        listener=listener,
        servers=plan.expansion.servers,
        adapters=plan.expansion.adapters,
        trace=plan.expansion.trace,
        trace_speed=plan.suite.workload.trace_speed,
    )
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    ending, detail = "failed", "internal error"
    if plan.resumed:
        store.add_event(RunEvent(run_id=run.run_id, at=datetime.now(UTC), kind="resumed"))
    try:
        sweep.go(plan.batches)
        while further := further_cases(plan.suite, report := store.report(run.run_id)):
            run = store.extend_run(report.run, further)
            batches = pending(rounds(further, run.seed), report.measurements, report.failures)
            listener.more(sum(len(batch.cases) for batch in batches))
            sweep = replace(sweep, run=run)
            sweep.go(batches)
        ending, detail = "finished", ""
    except KeyboardInterrupt:
        ending, detail = "interrupted", ""
    finally:
        store.add_event(RunEvent(run_id=run.run_id, at=datetime.now(UTC), kind=ending, detail=detail))
