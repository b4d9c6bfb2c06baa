"""What stored processes tell of verdicts agrees with the gate, draw by draw, and with simulations of a known truth."""

import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from fakes import START, make_case, make_environment, make_measurement, make_planned, make_request, make_run, store_report
from scipy.stats import binomtest
from terminal import run_bench

from bench.calibration_table import rules
from results.calibration import Calibrated, TooFewProcessesError, calibrate
from results.compare import compare
from results.comparison import Comparison, ComparisonRow
from results.gate import Judgement, gate
from results.history_replay import delay, summed
from results.looks import with_decided_rows
from results.metrics import METRICS
from results.noise import Noise, stored_noise
from results.policy import Policy, Rule
from results.records import Measurement, Report, RunEvent
from results.replay import IMPROVEMENT, NO_CHANGE, REGRESSION, Draws, Replay, draw
from results.stats import estimate
from results.store import Store

NAMES = {NO_CHANGE: "no_change", REGRESSION: "regression", IMPROVEMENT: "improvement"}
CASES = (make_case(output_tokens=16), make_case(output_tokens=32))
MEMORY = Policy(rules=(Rule(metrics=("peak_rss_bytes",), margin="5%"),))


def make_report(number: int, measurements: Sequence[Measurement], **changes: object) -> Report:
    run_id = f"run-{number:04}"
    at = START + timedelta(hours=number)
    planned = [make_planned(case) for case in CASES]
    mine = []
    for place, one in enumerate(measurements):
        attempt = f"{run_id}-{place}"
        requests = tuple(each.model_copy(update={"request_id": attempt}) for each in one.requests)
        mine.append(one.model_copy(update={"run_id": run_id, "attempt_id": attempt, "requests": requests}))
    return Report(
        run=make_run(*planned, run_id=run_id, started_at=at, **changes),
        events=(RunEvent(run_id=run_id, at=at, kind="finished"),),
        measurements=tuple(mine),
    )


def of_memory(levels: Sequence[Sequence[float]]) -> list[Report]:
    """Runs in which the first case's peak RSS is all that was measured, e to these powers."""
    return [
        make_report(
            number,
            [make_measurement("m", CASES[0], process=place, requests=(), values={"peak_rss_bytes": 1e9 * math.exp(one)})
             for place, one in enumerate(run)],
        )
        for number, run in enumerate(levels)
    ]  # fmt: skip


def of_all_kinds(runs: int, seed: int = 1) -> list[Report]:
    """Runs of two cases with times, a rate, a share, and memory that repeats."""
    random = np.random.default_rng(seed)
    reports = []
    for number in range(runs):
        day, measured = random.normal(0, 0.01), []
        for process in range(4):
            for case in CASES:
                slow = math.exp(day + random.normal(0, 0.02))
                request = make_request(
                    "r", ttft_s=0.1 * slow, tpot_s=0.05 * math.exp(random.normal(0, 0.03)),
                    values={"accepted_draft_share": 0.5 + random.normal(0, 0.02)},
                )  # fmt: skip
                values = {"peak_rss_bytes": 1.6e9, "goodput_rps": 2 / slow}
                measured.append(make_measurement("m", case, process=process, requests=(request,), values=values))
        reports.append(make_report(number, measured))
    return reports


def row_of(noise: Noise, a: Sequence[float], b: Sequence[float]) -> ComparisonRow:
    """The row that a gate would see of drawn sides."""
    sign = -1 if METRICS[noise.row.metric].better == "higher" else 1
    typical = noise.row.a.value
    sides = [
        tuple(typical + sign * one if noise.row.in_points else typical * math.exp(sign * one) for one in side) for side in (a, b)
    ]
    shown = [estimate([[value] for value in side]) for side in sides]
    assert shown[0]
    assert shown[1]
    return ComparisonRow(noise.row.planned, noise.row.metric, shown[0], shown[1], sides[0], sides[1])


LOOKS = (3, 5, 8)
POLICIES = (
    Policy(looks=LOOKS),
    Policy(looks=LOOKS, lone_regressions="confirm"),
    Policy(looks=(4,), confidence=0.9),
    Policy(looks=LOOKS, rules=(Rule(metrics=("accepted_draft_share",), margin="2 points"), Rule(metrics=("t*",), margin="3%"))),
)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_replays_judge_as_the_gate_does(policy: Policy) -> None:
    reports = of_all_kinds(6)
    noises = stored_noise(reports, policy).noises
    draws = draw(noises, policy.looks[-1], 12, np.random.default_rng(2))
    target, step = np.arange(12) % len(noises), 0.06
    margins = np.array([one.judged.margin for one in noises], dtype=np.float64)
    ending = Replay(noises, draws, policy).judged(margins, target, step)
    draws.b[target, np.arange(12)] += step
    whole = compare(reports[0], reports[0])
    seen = set()
    for trial in range(12):
        judgement: Judgement | None = None
        for look, processes in enumerate(policy.looks, 1):
            sides = [
                (noise, draws.a[row, trial, :processes], draws.b[row, trial, :processes]) for row, noise in enumerate(noises)
            ]
            rows = tuple(row_of(noise, a.tolist(), b.tolist()) for noise, a, b in sides)
            comparison = with_decided_rows(Comparison(whole.a_run, whole.b_run, (), rows, (), ()), judgement)
            judgement = gate(comparison, policy, look=look)
        assert judgement
        judged = {(one.row.planned.case.case_id, one.row.metric): one for one in judgement.rows}
        for row, noise in enumerate(noises):
            told = judged[noise.row.planned.case.case_id, noise.row.metric]
            assert told.verdict == NAMES.get(int(ending.verdicts[row, trial]), "inconclusive")
            assert told.row.replicates == policy.looks[ending.looks[row, trial]]
            seen.add(told.verdict)
    assert {"regression", "no_change", "inconclusive"} <= seen


def test_noise_of_known_numbers() -> None:
    runs = [[0.0, 0.02], [0.01, 0.03], [0.04, 0.06], [0.03, 0.05]]
    (noise,) = stored_noise(of_memory(runs), Policy()).noises
    assert noise.spread == pytest.approx(math.sqrt(0.0002))  # each run: ±0.01, one degree of freedom
    means = np.array([0.01, 0.02, 0.05, 0.04])
    between = (2 * means.var(ddof=1) - 0.0002) / 2
    assert noise.run_spread == pytest.approx(math.sqrt(between))
    assert noise.residuals == pytest.approx([-0.01 * math.sqrt(2), 0.01 * math.sqrt(2)] * 4)
    assert noise.levels.var(ddof=1) == pytest.approx(between)
    assert np.argsort(noise.levels).tolist() == [0, 1, 3, 2]
    assert len(noise.units) == 8


def test_noise_is_turned_so_that_positive_is_worse() -> None:
    measured = [
        make_measurement(
            "m", CASES[0], process=process, requests=(), values={"goodput_rps": 2.0 + process, "peak_rss_bytes": 1e9 + process}
        )
        for process in range(6)
    ]
    noises = {one.row.metric: one for one in stored_noise([make_report(0, measured)], Policy()).noises}
    assert noises["goodput_rps"].residuals[0] > 0 > noises["peak_rss_bytes"].residuals[0]


def test_what_repeats_has_no_noise() -> None:
    (noise,) = stored_noise(of_memory([[0.3] * 3] * 5), Policy()).noises
    assert (noise.spread, noise.run_spread, noise.runs_differ) == (0, 0, False)
    assert set(noise.residuals) == set(noise.levels) == {0.0}


def test_three_runs_tell_nothing_of_how_runs_differ() -> None:
    (noise,) = stored_noise(of_memory([[0.0, 0.02], [0.3, 0.32], [0.1, 0.12]]), Policy()).noises
    assert noise.run_spread is None
    assert not len(noise.levels)


def test_runs_before_a_change_are_no_noise() -> None:
    random = np.random.default_rng(3)
    runs = random.normal(0, 0.01, (24, 4)) + np.where(np.arange(24) < 10, 0, 0.3)[:, None]
    (noise,) = stored_noise(of_memory(runs.tolist()), Policy()).noises
    assert {run_id for run_id, _ in noise.units} == {f"run-{number:04}" for number in range(10, 24)}
    assert noise.run_spread is not None
    assert noise.run_spread < 0.01


def test_too_few_processes_are_refused_with_a_remedy() -> None:
    runs = of_memory([[0.0, 0.01], [0.02, 0.0], [0.01]])
    with pytest.raises(TooFewProcessesError, match="bench run --extend run-0002 --processes 6") as caught:
        calibrate(runs, Policy(), trials=100, seed=1, at=START)
    assert caught.value.exit_code == 3
    nothing = [make_report(0, [])]
    with pytest.raises(TooFewProcessesError):
        calibrate(nothing, Policy(), trials=100, seed=1, at=START)


def test_zeros_are_left_out_and_told() -> None:
    reports = of_all_kinds(2)
    measured = [one.model_copy(update={"values": {**one.values, "goodput_rps": 0.0}}) for one in reports[0].measurements]
    stored = stored_noise([reports[0].model_copy(update={"measurements": tuple(measured)}), reports[1]], Policy())
    assert "Goodput is left out of cases where it was zero or no finite number." in stored.left_out
    assert "goodput_rps" not in {one.row.metric for one in stored.noises}


def test_sides_never_share_a_process_where_enough_are_stored() -> None:
    (noise,) = stored_noise(of_memory(np.random.default_rng(4).normal(0, 0.02, (3, 12)).tolist()), Policy()).noises
    draws = draw([noise], 16, 50, np.random.default_rng(1))
    both = np.concatenate([draws.a[0], draws.b[0]], axis=1)
    assert all(len(set(one)) == 32 for one in both)
    assert set(both.reshape(-1)) <= set(noise.residuals)


def test_draws_from_few_processes_spread_as_they_do() -> None:
    (noise,) = stored_noise(of_memory([[0.0, 0.03, 0.01], [0.02, 0.05, 0.0]]), Policy()).noises
    drawn = draw([noise], 16, 4000, np.random.default_rng(1)).a
    assert np.std(drawn) == pytest.approx(np.std(noise.residuals), rel=0.02)
    assert len(np.unique(drawn)) == drawn.size


def test_delays_are_summed_up() -> None:
    assert summed([3, None, 2, 2, None], 0.1).runs_for_half == 3
    assert summed([None, None, 2], 0.1).runs_for_half is None
    assert summed([2, 4], 0.1).runs_for_half == 2


# ---- against known truths


def verdicts_benchmark() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "verdicts.py"
    spec = importlib.util.spec_from_file_location("verdicts_for_calibration", path)
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calibrated(levels: np.ndarray, trials: int = 2000, policy: Policy = MEMORY, seed: int = 1) -> Calibrated:
    return calibrate(of_memory(levels.tolist()), policy, trials=trials, seed=seed, at=START)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [(3, 100), (3, 9), (200, 5)])
def test_figures_agree_with_a_direct_simulation(stored: tuple[int, int]) -> None:
    """Without replacement, smoothed, and run against run: each within an interval of simulated processes (99.9 %, Wilson)."""
    truth = verdicts_benchmark()
    one = calibrated(truth.log_medians(np.random.default_rng(8), np.random.default_rng(9).normal(0, truth.BETWEEN, stored)))
    (metric,) = one.found.metrics
    unchanged, slower = (truth.simulate(factor, truth.LOOKS, 2000, 5) for factor in (1.0, 1.05))
    known = binomtest(unchanged.counted["regression"], 2000).proportion_ci(0.999, method="wilson")
    assert known.low <= metric.false_regressions / metric.trials <= known.high
    power = next(power for power in metric.power if power.effect == 0.05)
    assert power.found / power.trials == pytest.approx(slower.counted["regression"] / 2000, abs=0.02)
    assert power.mean_processes == pytest.approx(slower.processes, rel=0.05)
    assert metric.proposed_margin in (0.05, 0.06, 0.08)


@pytest.mark.slow
@pytest.mark.parametrize(("changed", "spread"), [(0, 0.06), (10, 0.05)])
def test_looks_hold_the_false_discovery_rate_over_many_rows(changed: int, spread: float) -> None:
    """Of 40 rows, too noisy to be called unchanged, that keep their first verdicts while the correction goes on over all of them."""
    rows, trials = 40, 1500
    random = np.random.default_rng(12)
    (noise,) = stored_noise(of_memory([[0.0, 0.01]] * 3), MEMORY).noises
    a, b = random.normal(0, spread, (2, rows, trials, MEMORY.looks[-1]))
    b[:changed] += 0.1
    verdicts = Replay([noise] * rows, Draws(a, b), MEMORY).judged(np.full(rows, 0.05)).verdicts
    told = (verdicts == REGRESSION) | (verdicts == IMPROVEMENT)
    wrong = told[changed:].sum(axis=0) / np.maximum(told.sum(axis=0), 1)
    assert wrong.mean() < 0.07  # of 0.05, with three standard errors
    assert not changed or np.mean(verdicts[:changed] == REGRESSION) > 0.95


@pytest.mark.slow
def test_runs_that_differ_are_found_out() -> None:
    """Days that differ by 2 % make false regressions, as many as a simulation of such days has, and a warning."""
    random = np.random.default_rng(11)

    def sides(count: int, processes: int) -> np.ndarray:
        return random.normal(0, 0.02, (count, 1)) + random.normal(0, 0.02, (count, processes))

    one = calibrated(sides(40, 5))
    (noise,) = stored_noise(of_memory([[0.0, 0.01]] * 3), MEMORY).noises
    truth = Replay([noise], Draws(sides(4000, 16)[None], sides(4000, 16)[None]), MEMORY)
    wrong = np.mean(truth.judged(np.array([0.05])).verdicts == REGRESSION)
    (metric,) = one.found.metrics
    assert wrong > 0.1
    assert metric.false_regressions / metric.trials == pytest.approx(wrong, abs=0.06)
    assert metric.proposed_margin is not None and metric.proposed_margin > 0.1
    assert any("Runs differ by more than their processes explain in 1 of 1 rows" in note for note in one.notes)


@pytest.mark.slow
def test_one_seed_gives_one_result() -> None:
    reports = of_all_kinds(5)
    first, again, other = (calibrate(reports, Policy(), trials=200, seed=seed, at=START).to_dict() for seed in (1, 1, 2))
    assert first == again
    assert first["metrics"] != other["metrics"]


@pytest.mark.slow
def test_history_confirms_big_steps_and_no_absent_ones() -> None:
    (noise,) = stored_noise(of_memory(np.random.default_rng(4).normal(0, 0.02, (6, 5)).tolist()), MEMORY).noises
    random = np.random.default_rng(1)
    assert summed(list(delay(noise, 0.1, 40, random)), 0.1).found == 40
    assert summed(list(delay(noise, 0.0, 40, random)), 0.0).found <= 2


# ---- the command


def fill(url: str, reports: Sequence[Report]) -> None:
    with Store.writing(url) as store:
        for report in reports:
            store_report(store, report)


@pytest.mark.slow
def test_command_tells_and_stores(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    reports = of_all_kinds(5)
    elsewhere = make_report(99, reports[0].measurements, environment=make_environment(cpu_model="Other CPU"))
    older = elsewhere.model_copy(update={"run": elsewhere.run.model_copy(update={"started_at": START - timedelta(days=1)})})
    fill(url, [*reports, older])
    done = run_bench("calibrate", "--store", url, "--trials", "200")
    assert done.code == 0
    assert "Sides are drawn from 20 processes of 5 runs, each from a run of its own." in done.output
    pasted = done.output[done.output.index("rules:") :]
    assert Policy(rules=yaml.safe_load(pasted)["rules"]).asked == frozenset()
    with Store.reading(url) as store:
        stored = store.calibration("quickstart", reports[0].run.environment.machine_id)
    assert stored
    assert {one.metric for one in stored.metrics} == {"ttft_s", "tpot_s", "e2e_s", "goodput_rps", "peak_rss_bytes"}
    assert all(one.trials == 200 and one.cases == 2 for one in stored.metrics)
    narrow = run_bench("calibrate", "quickstart", "--store", url, "--trials", "100", columns=80)
    assert max(map(len, narrow.output.splitlines())) <= 80


@pytest.mark.slow
def test_command_as_json(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    fill(url, of_all_kinds(4))
    told = json.loads(run_bench("calibrate", "--store", url, "--trials", "100", "--runs", "3", "--json").output)
    assert told["schema"] == "calibration/1"
    assert told["run_ids"] == ["run-0001", "run-0002", "run-0003"]
    assert len(told["rows"]) == 10
    named = json.loads(
        run_bench("calibrate", "--store", url, "--trials", "100", "--run", "run-0000", "--run", "run-0003", "--json").output
    )
    assert named["run_ids"] == ["run-0000", "run-0003"]


def test_command_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    assert run_bench("calibrate", "--store", url).code == 2
    fill(url, of_memory([[0.0, 0.01]]))
    few = run_bench("calibrate", "--store", url)
    assert (few.code, "Too few processes" in few.error) == (3, True)
    assert "No run of suite 'mine' to replay" in run_bench("calibrate", "mine", "--store", url).error
    assert run_bench("calibrate", "--store", url, "--run", "nothing").code == 2
    assert "SUITE is empty" in run_bench("calibrate", "", "--store", url).error


@pytest.mark.slow
def test_a_noisy_case_and_a_metric_without_a_margin_are_told() -> None:
    random = np.random.default_rng(6)
    noisy, quiet = ([make_measurement("m", case, process=process, requests=(), values={
        "peak_rss_bytes": 1e9 * math.exp(random.normal(0, spread))}) for process in range(30)]
        for case, spread in zip(CASES, (1.5, 0.01), strict=True))  # fmt: skip
    done = calibrate([make_report(0, [*noisy, *quiet])], MEMORY, trials=100, seed=1, at=START)
    assert any(f"Peak RSS spreads most in {make_planned(CASES[0]).label}" in note for note in done.notes)
    assert [(one.metric, one.proposed_margin) for one in done.found.metrics] == [("peak_rss_bytes", None)]
    assert rules(done) == "rules: []"


@pytest.mark.slow
def test_points_are_written_as_points() -> None:
    policy = Policy(rules=(Rule(metrics=("accepted_draft_share",), margin="2 points"),))
    done = calibrate(of_all_kinds(4), policy, trials=100, seed=1, at=START)
    pasted = yaml.safe_load(rules(done))["rules"]
    margin = next(rule["margin"] for rule in pasted if rule["metrics"] == ["accepted_draft_share"])
    assert margin.endswith("points")
    assert Policy(rules=pasted).asked == {"accepted_draft_share"}
