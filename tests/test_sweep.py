"""A run's order of business with a launch that answers as told: what is tried, what is not, and what is stored of it."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import pytest
from fakes import make_case, make_failure, make_measurement, make_planned, make_run

from bench.schedule import Batch, rounds
from bench.sweep import Content, Launch, Outcome, Sweep
from bench.weights import ResolvedModel
from bench.worker import Job
from bench.workloads import Prompts
from results.cases import PlannedCase
from results.errors import GemmeterError
from results.records import Failure, FailureKind, Measurement

PROMPTS = Prompts(name="p", prompts=("hello",))
MODEL = ResolvedModel("gemma", "gemma", make_case().weights, None, None, None)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.outcomes: list[Outcome] = []

    def preparing(self, model: ResolvedModel, step: str, done: float | None) -> None:
        pass

    def phase(self, planned: PlannedCase | None, phase: str, done: int, total: int) -> None:
        self.phases.append((phase, done, total))

    def outcome(self, planned: PlannedCase, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def more(self, measurements: int) -> None:
        pass


class Kept:
    """A store that keeps what it is given in memory."""

    def __init__(self) -> None:
        self.measurements: list[Measurement] = []
        self.failures: list[Failure] = []

    def add_measurement(self, measurement: Measurement, scores: object) -> None:
        self.measurements.append(measurement)

    def add_failure(self, failure: Failure) -> None:
        self.failures.append(failure)


def launching(ends: Callable[[PlannedCase, int], FailureKind | None], tried: list[tuple[int, int]]) -> Launch:
    """A launch whose cases end as said; it gives up after the first failure, as workers do."""

    def launch(job: Job, run_id: str, listen: object) -> Generator[Outcome, None, None]:
        for planned in job.cases:
            tried.append((job.process, planned.case.output_tokens))
            attempt = f"{job.process}-{planned.case.output_tokens}-{len(tried)}"
            if kind := ends(planned, job.process):
                yield make_failure("f" + attempt, planned.case, process=job.process, kind=kind)
                return
            yield make_measurement("m" + attempt, planned.case, process=job.process)

    return launch


def sweep_of(planned: Iterable[PlannedCase], launch: Launch, heard: Heard, **changes: object) -> Sweep:
    run = make_run(*planned)
    fields: dict[str, object] = {
        "run": run, "models": {MODEL.weights: MODEL}, "prompts": {make_case().workload: PROMPTS}, "warmup": PROMPTS,
        "content": Content("none", lambda text: None), "store": Kept(), "prepare": lambda *_: Path(), "launch": launch,
        "listener": heard,
    }  # fmt: skip
    return Sweep(**fields | changes)  # type: ignore[arg-type]


def plan(processes: int = 2, **changes: object) -> list[PlannedCase]:
    return [make_planned(make_case(output_tokens=tokens), processes=processes, **changes) for tokens in (1, 2, 3, 4)]


def in_order(planned: list[PlannedCase]) -> list[Batch]:
    return [Batch(process, tuple(planned)) for process in range(planned[0].processes)]


def kinds(heard: Heard, planned: list[PlannedCase]) -> dict[int, list[str]]:
    """What became of each output length, round by round."""
    lengths = {one.case.case_id: one.case.output_tokens for one in planned}
    found: dict[int, list[str]] = {}
    for one in heard.outcomes:
        found.setdefault(lengths[one.case_id], []).append(one.kind if isinstance(one, Failure) else "measured")
    return found


def test_what_asks_for_more_than_one_that_was_out_of_memory_is_pruned_for_all_rounds() -> None:
    heard, tried, planned = Heard(), [], plan()
    launch = launching(lambda one, process: "oom" if one.case.output_tokens >= 3 else None, tried)
    sweep_of(planned, launch, heard).go(in_order(planned))
    assert tried == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert kinds(heard, planned) == {1: ["measured"] * 2, 2: ["measured"] * 2, 3: ["oom"], 4: ["pruned"]}
    pruned = heard.outcomes[-3]
    assert isinstance(pruned, Failure)
    assert (pruned.phase, pruned.process) == ("plan", 0)
    assert "the same with output 3 was out of memory" in pruned.message


def test_what_was_measured_once_is_tried_again_whatever_smaller_ones_do() -> None:
    heard, tried, planned = Heard(), [], plan()
    launch = launching(lambda one, process: "oom" if process and one.case.output_tokens == 2 else None, tried)
    sweep_of(planned, launch, heard).go(in_order(planned))
    assert kinds(heard, planned) == {
        1: ["measured"] * 2, 2: ["measured", "oom"], 3: ["measured"] * 2, 4: ["measured"] * 2,
    }  # fmt: skip


def test_a_case_pruned_before_the_stop_stays_pruned() -> None:
    heard, tried, planned = Heard(), [], plan(1)
    sweep = sweep_of(planned, launching(lambda one, process: None, tried), heard)
    sweep.go(in_order(planned[2:]), [planned[1]])
    assert tried == []
    assert kinds(heard, planned) == {3: ["pruned"], 4: ["pruned"]}


@pytest.mark.parametrize(("kind", "tries"), [("crash", 2), ("engine_error", 2), ("timeout", 1), ("oom", 1), ("unsupported", 1)])
def test_other_cases_of_a_load_go_on_in_a_new_worker(kind: FailureKind, tries: int) -> None:
    heard, tried, planned = Heard(), [], plan()
    launch = launching(lambda one, process: kind if one.case.output_tokens == 4 else None, tried)
    sweep_of(planned, launch, heard).go([Batch(batch.process, batch.cases[::-1]) for batch in in_order(planned)])
    assert kinds(heard, planned) == {4: [kind] * tries, 1: ["measured"] * 2, 2: ["measured"] * 2, 3: ["measured"] * 2}


def test_a_load_that_settles_nothing_is_not_tried_for_ever() -> None:
    heard, planned = Heard(), plan(1)

    def nothing(*_: object) -> Generator[Outcome, None, None]:
        yield from ()

    sweep_of(planned, nothing, heard).go(in_order(planned))
    assert heard.outcomes == []


def test_what_will_not_fit_is_left_out_where_that_is_wished() -> None:
    heard, tried, planned = Heard(), [], plan()
    prepared: list[object] = []
    sweep = sweep_of(
        planned, launching(lambda one, process: None, tried), heard,
        unfit=lambda one: "It is expected to take 9 GiB." if one.case.output_tokens > 1 else None,
        prepare=lambda *given: prepared.append(given),
    )  # fmt: skip
    sweep.go(in_order(planned))
    assert tried == [(0, 1), (1, 1)]
    assert kinds(heard, planned) == {1: ["measured"] * 2, 2: ["pruned"], 3: ["pruned"], 4: ["pruned"]}
    assert [one.message for one in heard.outcomes if isinstance(one, Failure)] == ["It is expected to take 9 GiB."] * 3
    assert len(prepared) == 1


def test_weights_of_which_no_case_is_left_are_not_prepared() -> None:
    heard, planned, prepared = Heard(), plan(1), []
    sweep = sweep_of(planned, launching(lambda one, process: None, []), heard, unfit=lambda one: "no", prepare=prepared.append)
    sweep.go(in_order(planned))
    assert prepared == []


def test_weights_that_cannot_be_had_fail_their_cases_once() -> None:
    heard, planned = Heard(), plan()

    def prepare(*_: object) -> Path:
        raise GemmeterError("no such file: fetch it.")

    sweep_of(planned, launching(lambda one, process: None, []), heard, prepare=prepare).go(in_order(planned))
    assert kinds(heard, planned) == {
        1: ["missing_weights"],
        2: ["missing_weights"],
        3: ["missing_weights"],
        4: ["missing_weights"],
    }


def test_each_load_is_preceded_by_its_rest() -> None:
    heard, tried, planned = Heard(), [], plan(2, cooldown_s=2.5)
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    launch = launching(lambda one, process: None, tried)
    sweep_of(planned, launch, heard, clock=lambda: now[0], sleep=sleep).go(rounds(planned, 1))
    assert slept == [1.0, 1.0, 0.5] * 2
    assert heard.phases == [("cool-down", 0, 3), ("cool-down", 1, 3), ("cool-down", 2, 3)] * 2
    assert len(tried) == 8


def test_the_store_is_given_each_outcome() -> None:
    heard, planned = Heard(), plan(1)
    sweep = sweep_of(planned, launching(lambda one, process: "oom" if one.case.output_tokens > 2 else None, []), heard)
    sweep.go(in_order(planned))
    kept: Kept = sweep.store  # type: ignore[assignment]
    assert [one.kind for one in kept.failures] == ["oom", "pruned"]
    assert len(kept.measurements) == 2
    assert all(request.prompt is None for one in kept.measurements for request in one.requests)
