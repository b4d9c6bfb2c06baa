"""Rows tell what was measured, what failed and what may have spoiled it."""

import json
from datetime import timedelta

import pytest
from fakes import START, make_case, make_failure, make_measurement, make_planned, make_report, make_request, make_run

from results.cases import Case, Load, PlannedCase
from results.caveats import sentence
from results.records import Failure, Measurement, Report, RowWarning, Score
from results.stats import Estimate
from results.summary import (
    by_case,
    caveats_of,
    estimate_text,
    estimates_of,
    quality_of,
    request_scores,
    run_to_dict,
    summarize,
    unresolved,
    worst_of_each,
)

CASE = make_case()


def warning(kind: str, **facts: float) -> RowWarning:
    return RowWarning(kind=kind, facts=dict(facts))


def test_rows_follow_the_plan_and_carry_the_quality_of_their_configuration() -> None:
    rows = summarize(make_report())
    assert [row.planned.case.shape for row in rows] == ["pp32 tg16", "pp32 tg16", "pp32 tg64"]
    assert [row.status for row in rows] == ["measured", "measured", "crash"]
    assert [row.processes for row in rows] == [3, 3, 0]
    assert rows[0].estimates["quality"].value == pytest.approx(0.8)
    assert "quality" not in rows[1].estimates  # another configuration
    assert rows[2].estimates.keys() >= {"quality"}
    assert [one.kind for one in rows[0].quality_warnings] == ["base_model"]


def test_speed_metrics_never_contain_the_quality_pass() -> None:
    rows = summarize(make_report())
    assert rows[0].estimates["tpot_s"].value == pytest.approx(0.1, rel=0.05)  # the quality pass took 0.05


def quality_cases(*workloads: str) -> list[Case]:
    return [make_case(purpose="quality", prompt_tokens=None, stop="eos", workload=name) for name in workloads]


def test_quality_passes_stand_alone_without_a_speed_case() -> None:
    (case,) = quality_cases("five")
    measured = make_measurement("q", case)
    scores = (Score(request_id="q-0", scorer="heuristic", version="v1", item="safety", value=0.7),)
    (row,) = summarize(Report(run=make_run(make_planned(case)), measurements=(measured,), scores=scores))
    assert row.estimates.keys() == {"safety", "quality"}
    assert (row.processes, row.status) == (1, "measured")
    assert row.quality_warnings == ()


def test_several_quality_passes_are_never_mixed_into_one_row() -> None:
    cases = [CASE, *quality_cases("five", "six")]
    rows = summarize(Report(run=make_run(*(make_planned(case) for case in cases))))
    assert [row.planned.case.workload for row in rows] == ["five", "five", "six"]


def test_a_failed_quality_pass_leaves_the_speed_row_measured() -> None:
    (quality,) = quality_cases("five")
    report = Report(
        run=make_run(make_planned(CASE, processes=1), make_planned(quality, processes=1)),
        measurements=(make_measurement("m"),),
        failures=(make_failure("f", quality, kind="timeout"),),
    )
    (row,) = summarize(report)
    assert (row.status, row.failures) == ("measured", ())
    assert [one.kind for one in row.quality_failures] == ["timeout"]
    assert [one.facts for one in row.quality_warnings] == [{"failed": 1, "planned": 1, "kinds": "timeout"}]


def test_status_of_cases_that_failed_partly_or_were_not_reached() -> None:
    report = Report(
        run=make_run(make_planned(CASE)), measurements=(make_measurement("m"),), failures=(make_failure("f", process=1),)
    )
    (row,) = summarize(report)
    assert row.status == "partly"
    assert RowWarning(kind="failed_processes", facts={"failed": 1, "planned": 3, "kinds": "crash"}) in row.warnings
    (missing,) = summarize(Report(run=make_run(make_planned(CASE))))
    assert (missing.status, missing.warnings, missing.estimates) == ("missing", (), {})


def test_a_failure_made_good_is_forgotten_whatever_its_kind() -> None:
    made_good = make_failure("f", kind="interrupted"), make_failure("g"), make_failure("h", kind="oom")
    lost = make_failure("i", process=2)
    report = Report(run=make_run(), measurements=(make_measurement("m"),), failures=(*made_good, lost))
    assert by_case(report)[1][CASE.case_id] == (lost,)
    (row,) = summarize(report)
    assert (row.status, row.failures) == ("partly", (lost,))
    (row,) = summarize(report.model_copy(update={"failures": made_good}))
    assert (row.status, row.failures) == ("measured", ())
    assert "failed_processes" not in {one.kind for one in row.warnings}


def test_of_several_tries_the_last_one_counts_and_an_interrupted_one_undoes_nothing() -> None:
    def tried(attempt_id: str, kind: str, minute: int, **changes: object) -> Failure:
        return make_failure(attempt_id, kind=kind, started_at=START + timedelta(minutes=minute), **changes)

    first, again, stopped = tried("a", "oom", 0), tried("b", "crash", 1), tried("c", "interrupted", 2)
    assert unresolved([], [first, again]) == (again,)
    assert unresolved([], [stopped, again, first]) == (again,)  # in any order
    assert unresolved([], [stopped]) == (stopped,)
    other = tried("d", "timeout", 0, process=1)
    assert unresolved([], [other, first, stopped]) == (other, first)
    assert unresolved([make_measurement("m", process=1)], [other, first]) == (first,)
    elsewhere = make_measurement("m", run_id="another")
    assert unresolved([elsewhere], [first]) == (first,)


@pytest.mark.parametrize(
    ("metric", "estimate", "text"),
    [
        ("ttft_s", Estimate(0.0474, 0.0469, 0.0481, 3, "processes"), "47.4 ms [46.9, 48.1]"),
        ("ttft_s", Estimate(0.0474, None, None, 1, "requests"), "47.4 ms"),
        ("peak_rss_bytes", Estimate(2.0**20, 2.0**20, 2.0**20, 3, "processes"), "1 MiB"),
        ("weights_bytes", Estimate(2.0**20, 2.0**19, 2.0**21, 3, "processes"), "1 MiB"),
        ("ttft_s", None, "–"),
    ],
)
def test_estimates_as_text_show_an_interval_where_there_is_doubt(metric: str, estimate: Estimate | None, text: str) -> None:
    assert estimate_text(estimate, metric) == text


def test_estimates_leave_failed_requests_out() -> None:
    good, bad = make_request("r0", ttft_s=0.1), make_request("r1", ttft_s=9.0, error="broken pipe")
    found = estimates_of([make_measurement("m", requests=(good, bad))])
    assert found["ttft_s"].value == pytest.approx(0.1)
    assert found["ttft_s"].n == 1
    assert found["weights_bytes"].value == 1.07e9
    assert "energy_j" not in found
    assert "quality" not in found


def test_quality_is_the_mean_of_the_heuristics_and_of_no_other_score() -> None:
    def score(item: str, value: float, scorer: str = "heuristic") -> Score:
        return Score(request_id="m-0", scorer=scorer, version="v1", item=item, value=value)

    scores = [score("relevance", 1.0), score("safety", 0.5), score("user_satisfaction", 0.1, "person"), score("unknown", 0.0)]
    assert request_scores(scores) == {"relevance": 1.0, "safety": 0.5, "user_satisfaction": 0.1, "quality": 0.75}
    assert request_scores(scores[2:]) == {"user_satisfaction": 0.1}
    assert quality_of([make_measurement("m")], {"m-0": scores})["quality"].value == 0.75


def test_the_worst_warning_of_each_kind_is_kept() -> None:
    mild, bad, other = warning("cpu_contention", share=0.1), warning("cpu_contention", share=0.4), warning("governor")
    assert worst_of_each([mild, other, bad]) == (bad, other)


def test_caveats_tell_a_single_process_and_processes_that_differ() -> None:
    planned = make_planned(CASE)
    alone = caveats_of(planned, [make_measurement("a", warnings=())])
    assert [one.kind for one in alone] == ["within_process"]
    apart = caveats_of(planned, [make_measurement("a", warnings=()), make_measurement("b", warnings=(), ttft_s=0.4)])
    assert [one.kind for one in apart] == ["process_spread"]
    assert apart[0].facts["spread"] == pytest.approx(1.15 / 0.85 - 1)
    (quality,) = quality_cases("five")
    assert caveats_of(make_planned(quality), [make_measurement("q", quality, warnings=())]) == ()


def test_json_form_has_base_units_sentences_and_failures() -> None:
    found = json.loads(json.dumps(run_to_dict(make_report()), allow_nan=False))
    assert found["run_id"] == "20260301-120000-aaaa"
    first, _, crashed = found["cases"]
    assert first["metrics"]["ttft_s"]["unit"] == "s"
    assert first["metrics"]["ttft_s"]["n"] == 3
    assert {one["kind"] for one in first["warnings"]} == {"cpu_contention", "base_model"}
    assert crashed["failures"][0]["stderr_tail"] == "loading weights\n"


def counted(engine: str, tokens: int | None, **changes: object) -> tuple[PlannedCase, Measurement]:
    planned = make_planned(make_case(engine=engine, prompt_tokens=None, **changes), processes=1)
    name = f"{engine}-{planned.case.target}"
    requests = tuple(make_request(f"{name}{n}", index=n, prompt_tokens=None if tokens is None else tokens + n) for n in range(2))
    return planned, make_measurement(f"m-{name}", planned.case, requests=requests)


def test_servers_of_one_engine_are_counted_apart() -> None:
    cases = [counted("openai", 11, target="vllm"), counted("openai", 13, target="staging")]
    report = Report(run=make_run(*(one for one, _ in cases)), measurements=tuple(one for _, one in cases))
    told = {
        row.planned.case.target: (one.facts["engine"], one.facts["count"], one.facts["other"])
        for row in summarize(report)
        for one in row.warnings
        if one.kind == "prompt_tokens_differ"
    }
    assert told == {"vllm": ("openai on staging", 11.5, 13.5), "staging": ("openai on vllm", 13.5, 11.5)}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (counted("llamacpp", 10), {"transformers": ("llamacpp", 11.5, 10.5), "llamacpp": ("transformers", 10.5, 11.5)}),
        (counted("llamacpp", 11), {}),
        (counted("openai", None), {}),
        (counted("llamacpp", 10, load=Load(arrivals="closed", concurrency=2)), {}),
        (counted("llamacpp", 10, prompt_format="chat"), {}),
    ],
)
def test_prompts_that_engines_count_otherwise_are_told(
    other: tuple[PlannedCase, Measurement], told: dict[str, tuple[str, float, float]]
) -> None:
    ours = counted("transformers", 11)
    report = Report(run=make_run(planned=(ours[0], other[0])), measurements=(ours[1], other[1]))
    found = {
        row.planned.case.engine: (one.facts["engine"], one.facts["count"], one.facts["other"])
        for row in summarize(report)
        for one in row.warnings
        if one.kind == "prompt_tokens_differ"
    }
    assert found == told
    assert all(sentence(one) for row in summarize(report) for one in row.warnings)


@pytest.mark.parametrize(("theirs", "told"), [(20.0, False), (20.9, False), (21.5, True), (18.0, True), (None, False)])
def test_a_server_whose_own_account_differs_is_told(theirs: float | None, told: bool) -> None:
    values = {} if theirs is None else {"server_decode_tps": theirs}
    measured = make_measurement("m", CASE, requests=(make_request("q", tpot_s=0.05, values=values),))
    found = [one for one in caveats_of(make_planned(CASE, processes=1), [measured]) if one.kind == "server_disagrees"]
    assert bool(found) == told
    assert all("its client saw 20" in sentence(one) for one in found)
