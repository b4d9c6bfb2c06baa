"""A run from its plan to its end: prepare the weights, launch the workers in order, store every result as it comes."""

import math
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.cache import cache_folder
from bench.contents import keeper
from bench.engines import support
from bench.engines.protocol import Server
from bench.estimate import unfit
from bench.interrupts import Interrupts
from bench.launch import Outside, launch
from bench.plan import Plan
from bench.pruning import message, out_of_memory, pruned_by
from bench.schedule import DECIDED, Batch, pending, rounds
from bench.serving_sweep import further_cases
from bench.weights import Form, Progress, ResolvedModel
from bench.worker import Job
from bench.workloads import Prompts, load_prompts
from results.cases import PlannedCase
from results.errors import GemmeterError
from results.records import ContentPolicy, Failure, FailureKind, Measurement, Request, Run, RunEvent, Score
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


Launch = Callable[[Job, str, Callable[[PlannedCase | None, str, int, int], None]], Generator[Outcome, None, None]]
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
    unfit: Callable[[PlannedCase], str | None] | None = None
    """Why a case shall not be tried; `None`: all shall."""
    interrupts: Interrupts = field(default_factory=Interrupts)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def go(self, batches: Sequence[Batch], too_large: Iterable[PlannedCase] = ()) -> None:
        """Measure the batches in their order; each outcome is stored before the next case begins.

        Args:
            too_large: cases that were out of memory before, when the run was stopped.
        """
        settled = _Settled(too_large=list(too_large))
        self._leave_out_unfit(batches, settled)
        sources = self._prepare(batches, settled)
        for batch in batches:
            left = batch.cases
            while left := self._to_try(batch.process, left, settled):
                self._cool_down(max(one.cooldown_s for one in left))
                job = self._job(batch.process, left, [sources[one] for one in _needed(left[0])])
                done = self._measure(job, settled)
                left = tuple(one for one in left if one.case.case_id not in done) if done else ()

    def _measure(self, job: Job, settled: "_Settled") -> set[str]:
        """One worker; the ids of the cases that it came to an end with."""
        done = set()
        with closing(self.launch(job, self.run.run_id, self.listener.phase)) as outcomes:
            for outcome in outcomes:
                with self.interrupts.held():
                    self._keep(outcome)
                done.add(outcome.case_id)
                if isinstance(outcome, Measurement):
                    settled.measured.add(outcome.case_id)
                elif outcome.kind in DECIDED:
                    settled.given_up.add(outcome.case_id)
                if isinstance(outcome, Failure) and outcome.kind == "oom":
                    settled.too_large.append(self.run.plan_of(outcome.case_id))
        return done

    def _prepare(self, batches: Sequence[Batch], settled: "_Settled") -> dict[Needed, Path | None]:
        sources: dict[Needed, Path | None] = {}
        for needed, of_all in _by_needed(batches).items():
            model = self.models[needed.weights]
            units = [unit for unit in of_all if unit[0].case.case_id not in settled.given_up]
            if not units:
                continue
            try:
                sources[needed] = self.prepare(model, partial(self.listener.preparing, model), needed.form, needed.level)
            except GemmeterError as error:
                for planned, process in units:
                    self._give_up(planned, process, getattr(error, "kind", "missing_weights"), "prepare", str(error), settled)
        return sources

    def _leave_out_unfit(self, batches: Sequence[Batch], settled: "_Settled") -> None:
        """Where it is wished, what is expected to take more memory than there is."""
        if self.unfit is None:
            return
        for batch in batches:
            for planned in batch.cases:
                if reason := self.unfit(planned):
                    self._give_up(planned, batch.process, "pruned", "plan", reason, settled)

    def _to_try(self, process: int, cases: Iterable[PlannedCase], settled: "_Settled") -> tuple[PlannedCase, ...]:
        """The cases without those given up, and those that ask for more than one which was out of memory."""
        left = []
        for planned in cases:
            if planned.case.case_id in settled.given_up:
                continue
            by = None if planned.case.case_id in settled.measured else pruned_by(planned, settled.too_large)
            if by is None:
                left.append(planned)
            else:
                self._give_up(planned, process, "pruned", "plan", message(planned, by), settled)
        return tuple(left)

    def _cool_down(self, seconds: float) -> None:
        """Rest, so that a load begins as cool as the others did."""
        end = self.clock() + seconds
        while (left := end - self.clock()) > 0:
            self.listener.phase(None, "cool-down", math.floor(seconds - left), math.ceil(seconds))
            self.sleep(min(left, 1.0))

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

    def _give_up(
        self, planned: PlannedCase, process: int, kind: FailureKind, phase: str, message: str, settled: "_Settled"
    ) -> None:
        """Store a failure for a case that no worker is asked for; one for all of its rounds."""
        if planned.case.case_id in settled.given_up:
            return
        settled.given_up.add(planned.case.case_id)
        self._keep(
            Failure(
                attempt_id="f" + uuid.uuid4().hex[:15],
                run_id=self.run.run_id,
                case_id=planned.case.case_id,
                process=process,
                started_at=datetime.now(UTC),
                kind=kind,
                phase=phase,
                message=message,
            )
        )

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


@dataclass
class _Settled:
    """What is known of the cases so far."""

    given_up: set[str] = field(default_factory=set)
    """Ids of those that are not tried again."""
    measured: set[str] = field(default_factory=set)
    too_large: list[PlannedCase] = field(default_factory=list)


def _by_needed(batches: Iterable[Batch]) -> dict[Needed, list[tuple[PlannedCase, int]]]:
    """The cases that need each weights, with their rounds."""
    found: dict[Needed, list[tuple[PlannedCase, int]]] = {}
    for batch in batches:
        for planned in batch.cases:
            for needed in _needed(planned):
                found.setdefault(needed, []).append((planned, batch.process))
    return found


def _needed(planned: PlannedCase) -> list[Needed]:
    """The weights of the model, then those of the model that drafts."""
    case, form = planned.case, support(planned.case.engine).weights
    level = case.quantization if form == "gguf" else None
    return [Needed(case.weights, form, level), *([Needed(case.draft, form, None)] if case.draft else [])]


def measure_plan(plan: Plan, store: Store, prepare: Prepare, listener: Listener) -> None:
    """Measure what a plan leaves to do and store how it ended; interruption by a signal is an ending like any other.

    The caller holds the run (`bench.holding`).

    Raises:
        KeyboardInterrupt: a second signal came, so that nothing more shall be waited for; how the run ended is stored.
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
        unfit=unfit if plan.suite.skip_unfit else None,
    )
    if plan.resumed:
        store.add_event(RunEvent(run_id=run.run_id, at=datetime.now(UTC), kind="resumed"))
    ending, detail = "failed", "internal error"
    with sweep.interrupts.listening():
        try:
            sweep.go(plan.batches, _too_large(plan, store))
            while further := further_cases(plan.suite, report := store.report(run.run_id)):
                run = store.extend_run(report.run, further)
                batches = pending(rounds(further, run.seed), report.measurements, report.failures)
                listener.more(sum(len(batch.cases) for batch in batches))
                sweep = replace(sweep, run=run)
                sweep.go(batches, out_of_memory(report, ()))
            ending, detail = "finished", ""
        except KeyboardInterrupt:
            ending, detail = "interrupted", ""
            if sweep.interrupts.count > 1:
                raise
        finally:
            sweep.interrupts.ignore()
            store.add_event(RunEvent(run_id=run.run_id, at=datetime.now(UTC), kind=ending, detail=detail))


def _too_large(plan: Plan, store: Store) -> list[PlannedCase]:
    """What was out of memory before the run was stopped, unless it is tried again now."""
    again = {planned.case.case_id for batch in plan.batches for planned in batch.cases}
    return out_of_memory(store.report(plan.run.run_id), again) if plan.resumed else []
