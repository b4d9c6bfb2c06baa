"""Measuring until it is decided, with a machine of known times in place of processes."""

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import START, make_case, make_environment, make_failure, make_measurement, make_planned, make_run, store_report

from bench.places import Place, PlaceError
from bench.plan import extended
from bench.until_decided import SAME_PACKAGES, Decided, absolute_url, from_anywhere, looks_up_to, until_decided
from results.cases import Case, PlannedCase
from results.errors import NotComparableError, StoreError, UsageError
from results.gate import Judgement
from results.policy import Policy, Rule
from results.records import FailureKind, Report, Run, RunEvent
from results.store import Store

TPOT_ALONE = Policy(rules=(Rule(gate=False), Rule(metrics=("tpot_s",), gate=True)), looks=(3, 5, 8))
A, B = Place(variables={"SIDE": "a"}), Place(variables={"SIDE": "b"})
SHORT, LONG = make_case(output_tokens=16), make_case(output_tokens=32)

Times = Callable[[str, Case, int], float | FailureKind]
"""(side, case, process) → its time per output token in s, or how it fails."""


@dataclass
class Machine:
    """Measures by a table, and keeps what comes of it as `bench run` does."""

    times: Times
    cases: dict[str, tuple[PlannedCase, ...]]
    """By side."""
    environments: dict[str, str] = field(default_factory=dict)
    """The CPU's model by side."""
    log: list[str] = field(default_factory=list)
    reports: dict[str, Report] = field(default_factory=dict)
    started: Callable[[Report], None] = lambda _: None
    ttft_s: Callable[[str, int], float] = lambda side, process: 0.1

    def start(self, place: Place, suite: str, settings: tuple[str, ...], seed: int, paired_with: str | None) -> str:
        side = place.variables["SIDE"]
        planned = [one.model_copy(update={"processes": 1}) for one in self.cases[side]]
        run = make_run(
            *planned, run_id=f"20260302-120000-{side}", paired_with=paired_with, seed=seed,
            environment=make_environment(cpu_model=self.environments.get(side, "Test CPU")), started_at=START + timedelta(days=1),
        )  # fmt: skip
        self.reports[run.run_id] = Report(run=run)
        self._measure(side, run, 0, [one.case for one in planned])
        self.started(self.reports[run.run_id])
        return run.run_id

    def extend(self, place: Place, run_id: str, processes: int, case_ids: tuple[str, ...]) -> None:
        run = extended(self.reports[run_id].run, processes, case_ids)
        cases = [one.case for one in run.planned if one.case.case_id in case_ids]
        self._measure(place.variables["SIDE"], run, processes - 1, cases)

    def report(self, run_id: str) -> Report:
        return self.reports[run_id]

    def _measure(self, side: str, run: Run, process: int, cases: list[Case]) -> None:
        self.log.append(f"{side}{process + 1} " + " ".join(str(case.output_tokens) for case in cases))
        report = self.reports[run.run_id]
        measured, failed = list(report.measurements), list(report.failures)
        for case in cases:
            time = self.times(side, case, process)
            attempt = f"{run.run_id}-{case.output_tokens}-{process}"
            if isinstance(time, str):
                failed.append(make_failure(attempt, case, run_id=run.run_id, process=process, kind=time))
            else:
                ttft_s = self.ttft_s(side, process)
                measured.append(make_measurement(attempt, case, run_id=run.run_id, process=process, tpot_s=time, ttft_s=ttft_s))
        ended = RunEvent(run_id=run.run_id, at=START + timedelta(days=2), kind="finished")
        self.reports[run.run_id] = Report(run=run, events=(ended,), measurements=tuple(measured), failures=tuple(failed))


def machine(times: Times, *cases: Case, **environments: str) -> Machine:
    planned = tuple(make_planned(case) for case in cases or (SHORT, LONG))
    return Machine(times, {"a": planned, "b": planned}, environments)


def decide(measures: Machine, policy: Policy = TPOT_ALONE, **options: object) -> Decided:
    fields: dict[str, object] = {"a": A, "b": B, "measures": measures}
    return until_decided("quickstart", (), policy=policy, store_url="r.db", **(fields | options))  # type: ignore[arg-type]


def steady(side: str, case: Case, process: int) -> float:
    return 0.05 * (1 + 0.001 * process)


def verdicts(judgement: Judgement) -> dict[int, str]:
    return {one.row.planned.case.output_tokens: one.verdict for one in judgement.rows if one.gates}


def test_both_sides_are_measured_in_turn() -> None:
    measures, heard = machine(steady), []
    decided = decide(measures, heard=heard.append)
    assert [line.split()[0] for line in measures.log] == ["a1", "b1", "b2", "a2", "a3", "b3"]
    assert heard[:3] == ["A: process 1", "B: process 1", "B: process 2 of 3, 2 cases"]
    assert decided.judgement.verdict == "no_change"
    assert decided.judgement.look == 1
    assert decided.b.report.run.paired_with == decided.a.report.run.run_id
    assert decided.a.report.run.seed == decided.b.report.run.seed
    assert all(one.row.paired for one in decided.judgement.rows)


def wobbling(side: str, case: Case, process: int) -> float:
    """The long case is 9 % slower on B, under noise that takes some processes to see through."""
    noise = random.Random(f"{side}{process}").gauss(0, 0.03) if case == LONG else 0.0005 * process
    return 0.05 * (1 + noise) * (1.09 if side == "b" and case == LONG else 1)


def test_only_undecided_cases_go_on_and_a_decided_one_stays() -> None:
    measures, looks = machine(wobbling), []
    decided = decide(measures, told=looks.append)
    assert verdicts(looks[0]) == {16: "no_change", 32: "inconclusive"}
    assert [one.case.output_tokens for one in looks[0].undecided] == [32]
    assert verdicts(decided.judgement) == {16: "no_change", 32: "regression"}
    assert decided.judgement.exit_code == 1
    assert set(measures.log[6:]) == {f"{side}{process} 32" for side in "ab" for process in range(4, len(measures.log) // 2 + 1)}
    assert [one.look for one in looks] == list(range(1, len(looks) + 1))
    counts = {one.row.planned.case.output_tokens: one.row.replicates for one in decided.judgement.rows if one.gates}
    assert counts[16] == 3
    assert counts[32] == len(measures.log) // 2 > 3


def test_a_row_keeps_its_verdict_while_another_one_of_its_case_goes_on() -> None:
    both = Policy(rules=(Rule(gate=False), Rule(metrics=("tpot_s", "ttft_s"), gate=True)), looks=(3, 5))
    measures = machine(lambda side, case, process: 0.05 if process < 3 else 0.09, SHORT)
    measures.ttft_s = lambda side, process: noisy(side, SHORT, process)
    decided = decide(measures, both)
    rows = {one.row.metric: (one.verdict, one.row.replicates) for one in decided.judgement.rows if one.gates}
    assert rows == {"tpot_s": ("no_change", 3), "ttft_s": ("inconclusive", 5)}


def noisy(side: str, case: Case, process: int) -> float:
    return 0.05 * (1.0, 1.5, 0.8, 1.3, 0.9, 1.6, 0.7, 1.2)[(process + 3 * (side == "b")) % 8]


def test_it_ends_at_the_last_look_or_at_most() -> None:
    measures = machine(noisy)
    decided = decide(measures)
    assert (decided.judgement.exit_code, decided.judgement.look, len(measures.log)) == (3, 3, 16)
    measures = machine(noisy)
    decided = decide(measures, most=6)
    assert (decided.judgement.exit_code, decided.judgement.look, len(measures.log)) == (3, 2, 10)


def test_a_new_failure_is_judged_and_measured_no_further() -> None:
    def failing(side: str, case: Case, process: int) -> float | FailureKind:
        return "oom" if side == "b" and case == LONG else steady(side, case, process)

    measures = machine(failing)
    decided = decide(measures)
    assert decided.judgement.exit_code == 1
    assert [one.kind for one in decided.judgement.failures] == ["oom"]
    assert measures.log == ["a1 16 32", "b1 16 32", "b2 16", "a2 16", "a3 16", "b3 16"]


def test_a_build_that_always_crashes_is_a_regression() -> None:
    measures = machine(lambda side, case, process: "crash" if side == "b" else 0.05)
    assert decide(measures).judgement.verdict == "regression"


@pytest.mark.parametrize(("broken", "kind"), [("a", "crash"), ("a", "missing_weights"), ("b", "missing_dependency")])
def test_a_side_on_which_nothing_can_be_measured_ends_it(broken: str, kind: FailureKind) -> None:
    measures = machine(lambda side, case, process: kind if side == broken else 0.05)
    with pytest.raises(
        PlaceError, match=f"^{broken.upper()}: no case could be measured in run 20260302-120000-{broken}: The worker was killed"
    ) as raised:
        decide(measures)
    assert raised.value.exit_code == 5
    assert len(measures.log) == 2


def test_other_machines_and_other_cases_are_noticed_after_one_process() -> None:
    measures = machine(steady, b="Another CPU")
    with pytest.raises(NotComparableError, match="--allow-env-diff cpu_model"):
        decide(measures)
    assert len(measures.log) == 2
    assert decide(machine(steady, b="Another CPU"), allow=("cpu_model",)).judgement.exit_code == 0
    measures = machine(steady)
    measures.cases["b"] = (make_planned(SHORT), make_planned(make_case(output_tokens=99)))
    with pytest.raises(NotComparableError, match=r"other cases on the two sides \(.* tg32, .* tg99\)"):
        decide(measures)


@pytest.mark.slow
def test_a_stored_baseline_is_not_measured_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    cases = machine(steady).cases
    kept = make_run(*cases["a"], run_id="20260301-120000-kept")
    values = [
        make_measurement(
            f"{case.output_tokens}-{process}", case, run_id=kept.run_id, process=process, tpot_s=steady("a", case, process)
        )
        for case in (SHORT, LONG)
        for process in range(3)
    ]
    ended = RunEvent(run_id=kept.run_id, at=START, kind="finished")

    def decide_against(times: Times, reference: str) -> Decided:
        def keep(report: Report) -> None:
            with Store.writing(url) as store:
                store.remove_run(report.run.run_id)
                store_report(store, report)

        measures = Machine(times, cases, started=keep)
        decided = until_decided("quickstart", (), B, TPOT_ALONE, url, against=reference, measures=measures)
        assert {line[0] for line in measures.log} == {"b"}
        return decided  # and b's own run, now the latest, was not what it was judged against

    with Store.writing(url) as store:
        store_report(store, Report(run=kept, measurements=tuple(values), events=(ended,)))
    decided = decide_against(lambda side, case, process: 1.3 * steady(side, case, process), "latest")
    assert decided.a.run_ids == (kept.run_id,)
    assert decided.judgement.verdict == "regression"
    assert not decided.judgement.rows[0].row.paired
    decided = decide_against(noisy, kept.run_id)
    assert decided.judgement.exit_code == 3
    assert "has only 3 processes of some cases" in decided.judgement.reasons[-1]
    with pytest.raises(UsageError, match="nosuch"):
        decide_against(steady, "nosuch")
    assert decide_against(steady, "rolling:1").a.run_ids == (kept.run_id,)


def test_sides_that_ask_one_server_ask_it_other_prompts() -> None:
    measures = machine(steady, make_case(target="mine", engine="openai"))
    decided = decide(measures)
    assert decided.a.report.run.seed != decided.b.report.run.seed


def test_places_that_differ_in_their_folder_alone_are_told(tmp_path: Path) -> None:
    heard: list[str] = []
    measures = machine(steady)
    decide(measures, heard=heard.append)
    assert SAME_PACKAGES not in heard
    with pytest.raises(KeyError):  # the machine tells sides apart by a variable
        decide(measures, a=Place(folder=tmp_path), b=Place(), heard=heard.append)
    assert heard[-2:] == [SAME_PACKAGES, "A: process 1"]


def test_one_way_to_a_baseline_must_be_given() -> None:
    for options in ({"a": None}, {"against": "latest"}):
        with pytest.raises(UsageError, match="--a or --against, and one of the two"):
            decide(machine(steady), **options)


@pytest.mark.parametrize("most", [2, 9])
def test_looks_are_the_policy_s_own(most: int) -> None:
    with pytest.raises(UsageError, match=rf"--most {most}: policy default looks at 3, 5, 8 processes"):
        looks_up_to(TPOT_ALONE, most)
    assert looks_up_to(TPOT_ALONE, 7) == (3, 5)
    assert looks_up_to(TPOT_ALONE, None) == (3, 5, 8)


def test_an_interrupt_ends_it() -> None:
    measures = machine(steady)

    heard: list[str] = []

    def told(line: str) -> None:
        heard.append(line)
        if line.startswith("A: process 2"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        decide(measures, heard=told)
    assert "A in run 20260302-120000-a, B in run 20260302-120000-b" in heard[-1]
    assert measures.log == ["a1 16 32", "b1 16 32", "b2 16 32"]


def test_a_suite_means_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    text = "name: s\nquestion: Q\nservers: {{here: {{url: 'http://127.0.0.1:1/v1'}}}}\n{}\n"
    point = "{engine: openai, server: here, model: m}"
    (tmp_path / "s.yaml").write_text(text.format(f"include: [{point}]"))
    suite, settings, servers = from_anywhere("s.yaml", ("model=./mine", "dtype=bf16"))
    assert suite == str(tmp_path / "s.yaml")
    assert settings == (f"model={tmp_path / 'mine'}", "dtype=bf16")
    assert servers == {"here": "http://127.0.0.1:1/v1"}
    assert from_anywhere("quickstart", ()) == ("quickstart", (), {})
    with pytest.raises(UsageError, match="serving sweep"):
        from_anywhere("serving-sweep", ())
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        from_anywhere("quickstart", ("dtype",))
    with pytest.raises(UsageError, match="the policy's looks say how many"):
        from_anywhere("quickstart", ("processes=5",))


def test_a_store_means_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        absolute_url("sqlite:///.bench/results.db")
        == absolute_url(".bench/results.db")
        == f"sqlite:///{tmp_path}/.bench/results.db"
    )
    with pytest.raises(StoreError):
        absolute_url("mysql://x/y")
