"""Other tools' reports as runs: exact numbers of real files, and one sentence for every wrong one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import make_failure, make_report
from hypothesis import given, settings
from hypothesis import strategies as st

from results.errors import UsageError
from results.export import FORMATS
from results.imports import READERS, read_report
from results.imports.joining import joined
from results.imports.peer import IMPORTED
from results.imports.source import Source, read_source
from results.metrics import METRICS, PEERS, process_value
from results.records import Report

FIXTURES = Path(__file__).parent / "fixtures" / "imports"
PEER_FILES = ("llama-bench.json", "llama-bench.jsonl", "vllm-bench.json", "vllm-bench-detailed.json", "guidellm.json",
              "profile_export_aiperf.json", "profile_export.jsonl")  # fmt: skip


def beside(name: str) -> str | None:
    return (FIXTURES / name).read_text() if (FIXTURES / name).exists() else None


def source(name: str, change: Callable[[Any], object] | None = None) -> Source:
    """A fixture, with its first row changed in place."""
    found = read_source(name, (FIXTURES / name).read_text(), beside)
    if change:
        change(found.rows[0])
    return found


def imported(name: str, change: Callable[[Any], object] | None = None) -> Report:
    return read_report(source(name, change))


def value(report: Report, metric: str, case: int = 0) -> float | None:
    return process_value(metric, report.measurements[case])


def test_llama_bench_repeats_in_one_process() -> None:
    report = imported("llama-bench.json")
    prompt, generation = report.run.planned
    assert prompt.label == "gemma-3-270m-q4_k_m llama.cpp q4_k_m/unknown cpu pp32"
    assert (generation.case.prompt_tokens, generation.case.output_tokens, generation.case.threads) == (None, 8, 2)
    assert (prompt.processes, prompt.iterations) == (1, 3)
    assert len(report.measurements) == 2
    rates = [one.values["llamabench_pp_tps"] for one in report.measurements[0].requests]
    assert rates == pytest.approx([3.30168, 11.1733, 13.9807], rel=1e-5)
    assert value(report, "llamabench_pp_tps") == 32 / 2.863977397
    assert value(report, "llamabench_tg_tps", 1) == 8 / 3.227991543
    assert report.run.environment.facts["cpu_model"] == "Intel(R) Xeon(R) Processor"
    assert report.run.run_id.startswith("20261122-082312-")


def test_llama_bench_settings_and_depths_are_cases_of_their_own() -> None:
    report = imported("llama-bench.jsonl")
    assert len({one.case.case_id for one in report.run.planned}) == len(report.run.planned) == 8
    assert {one.case.depth for one in report.run.planned} == {0, 16}
    assert {one.model for one in report.run.planned} == {f"gemma-3-270m-q4_k_m (n_batch {n})" for n in (2048, 512)}
    assert {name for one in report.measurements for request in one.requests for name in request.values} == {
        "llamabench_pp_tps", "llamabench_tg_tps", "llamabench_pg_tps",
    }  # fmt: skip


@pytest.mark.parametrize("old", [{"flash_attn": False}, {"n_gpu_layers": 99}, {"flash_attn": "auto", "new_setting": [1]}])
def test_llama_bench_of_other_builds_is_read(old: dict[str, Any]) -> None:
    first = imported("llama-bench.json").run.planned[0].case
    changed = read_report(Source("x", tuple(row | old for row in source("llama-bench.json").rows), "x")).run.planned[0].case
    assert changed.attention == ("off" if old.get("flash_attn") is False else None)
    assert changed.weights == first.weights


@pytest.mark.parametrize(
    ("described", "level"),
    [
        ("gemma3 270M Q4_K - Medium", "q4_k_m"), ("qwen2 7B Q8_0", "q8_0"), ("llama 7B mostly F16", "fp16"), ("llama 8B BF16", "bf16"),
        ("llama 1B all F32", "fp32"), ("phi3 IQ4_XS - 4.25 bpw", "iq4_xs"), ("gpt-oss 20B MXFP4 MoE", "mxfp4"), ("q", "unknown"),
    ],
)  # fmt: skip
def test_llama_bench_tells_the_level_of_the_weights(described: str, level: str) -> None:
    rows = tuple(row | {"model_type": described} for row in source("llama-bench.json").rows)
    assert read_report(Source("x", rows, "x")).run.planned[0].case.quantization == level


def test_vllm_requests_under_its_own_definitions() -> None:
    report = imported("vllm-bench-detailed.json")
    (planned,) = report.run.planned
    assert planned.label == "gemma-3-270m-q4_k_m openai-chat on unknown pp55 tg8 c2"
    first = report.measurements[0].requests[0]
    assert first.values["vllm_ttft_s"] == 2.808235690004949
    assert first.values["vllm_tpot_s"] == (19.974139130004914 - 2.808235690004949) / 7
    assert value(report, "vllm_ttft_s") == pytest.approx(3.6421709959977306)
    assert value(report, "vllm_tpot_s") == pytest.approx(1.4990020547858355)
    assert value(report, "vllm_e2e_s") == pytest.approx(17.522312112498184)
    assert value(report, "vllm_itl_s") == pytest.approx(0.5398001039975497)
    assert value(report, "vllm_output_tps") == 1.0108519453572433
    assert {warning.kind for warning in report.measurements[0].warnings} == {"remote_session", "unknown_machine"}


def test_vllm_summaries_are_the_same_case_and_medians() -> None:
    summary, detailed = imported("vllm-bench.json"), imported("vllm-bench-detailed.json")
    assert not summary.measurements[0].requests
    assert summary.run.planned[0].case == detailed.run.planned[0].case
    for metric in ("vllm_ttft_s", "vllm_tpot_s", "vllm_itl_s", "vllm_e2e_s", "vllm_output_tps"):
        assert value(summary, metric) == pytest.approx(value(detailed, metric))


@pytest.mark.parametrize(
    ("asked", "load"),
    [
        ({"max_concurrency": None}, "c6"), ({"request_rate": 2.5}, "poisson 2.5/s"), ({"request_rate": 2, "burstiness": 0.5}, "gamma 2/s"),
        ({"request_rate": 2, "burstiness": float("inf")}, "constant 2/s"), ({"ramp_up_strategy": "linear"}, "trace"),
    ],
)  # fmt: skip
def test_vllm_loads(asked: dict[str, Any], load: str) -> None:
    case = imported("vllm-bench-detailed.json", lambda row: row.update(asked)).run.planned[0].case
    assert case.load is not None
    assert case.load.label == load


def test_vllm_failures_have_no_times_and_older_reports_no_latencies() -> None:
    report = imported(
        "vllm-bench-detailed.json", lambda row: row.update(errors=["", "refused", "", "", "", ""], latencies=[], start_times=[])
    )
    requests = report.measurements[0].requests
    assert (requests[1].error, requests[1].values) == ("server_error: refused", {})
    assert requests[0].values["vllm_e2e_s"] == pytest.approx(19.974139130004914)
    assert process_value("error_share", report.measurements[0]) == 1 / 6


def test_guidellm_has_a_tpot_that_is_not_ours() -> None:
    report = imported("guidellm.json")
    (planned,) = report.run.planned
    assert planned.label == "gemma-3-270m-q4_k_m.gguf openai_http on unknown pp32 tg8 c2"
    first = report.measurements[0].requests[0]
    assert first.values == {
        "guidellm_ttft_s": 7.655519962310791, "guidellm_tpot_s": 2.550725966691971, "guidellm_itl_s": 1.821469681603568,
        "guidellm_e2e_s": 20.406508445739746,
    }  # fmt: skip
    assert (first.prompt_tokens, first.output_tokens, first.sent_s) == (55, 8, 0.0)
    assert value(report, "guidellm_output_tps") == 0.9597232106258953
    assert report.run.environment.facts["guidellm"] == "0.8.1"
    assert value(report, "tpot_s") is None


def test_guidellm_without_requests_gives_its_medians() -> None:
    report = imported("guidellm.json", lambda row: row["benchmarks"][0].update(requests={}))
    assert value(report, "guidellm_ttft_s") == 6.301652669906616
    assert value(report, "guidellm_e2e_s") == pytest.approx(20.4, abs=0.1)


@pytest.mark.parametrize(
    ("strategy", "load"),
    [
        ({"type_": "synchronous"}, None), ({"type_": "concurrent", "streams": 8}, "c8"), ({"type_": "throughput", "max_concurrency": 16}, "c16"),
        ({"type_": "throughput"}, "trace"), ({"type_": "poisson", "rate": 1.5}, "poisson 1.5/s"), ({"type_": "constant", "rate": 2}, "constant 2/s"),
    ],
)  # fmt: skip
def test_guidellm_strategies(strategy: dict[str, Any], load: str | None) -> None:
    report = imported("guidellm.json", lambda row: row["benchmarks"][0]["config"].update(strategy=strategy))
    case = report.run.planned[0].case
    assert (case.load and case.load.label) == load
    lags = [one.sent_s - one.scheduled_s for one in report.measurements[0].requests]
    assert all(lag > 0 if load and "/s" in load else lag == 0 for lag in lags)


def test_aiperf_finds_the_other_of_its_two_files() -> None:
    report = imported("profile_export_aiperf.json")
    assert report == imported("profile_export.jsonl").model_copy(update={"run": report.run})
    (planned,) = report.run.planned
    assert planned.label == "gemma-3-270m-q4_k_m.gguf openai on unknown pp32 tg8 c2"
    slowest = max(report.measurements[0].requests, key=lambda one: one.values["aiperf_itl_s"])
    assert slowest.values["aiperf_itl_s"] == pytest.approx(2.279983678714286)
    assert value(report, "aiperf_ttft_s") == pytest.approx(6.7396125335)
    assert value(report, "aiperf_itl_s") == pytest.approx(0.901747312142857)
    assert value(report, "aiperf_e2e_s") == pytest.approx(16.5716465195)
    assert value(report, "aiperf_output_tps") == 1.082661871632061


def test_aiperf_totals_alone_give_its_medians() -> None:
    alone = read_source("profile_export_aiperf.json", (FIXTURES / "profile_export_aiperf.json").read_text())
    report = read_report(alone)
    assert not report.measurements[0].requests
    assert value(report, "aiperf_ttft_s") == pytest.approx(6.7396125335)
    assert report.run.planned[0].case == imported("profile_export_aiperf.json").run.planned[0].case


def test_aiperf_records_alone_are_refused() -> None:
    alone = read_source("profile_export.jsonl", (FIXTURES / "profile_export.jsonl").read_text())
    with pytest.raises(UsageError, match=r"names no model: keep AIPerf's profile_export_aiperf\.json beside it"):
        read_report(alone)


def test_aiperf_tells_the_gpus_that_it_asked_for() -> None:
    gpus = {"endpoints": {"a": {"gpus": {"0": {"gpu_name": "H100"}, "1": {"gpu_name": "H100"}}}}}
    report = imported("profile_export_aiperf.json", lambda row: row.update(telemetry_data=gpus))
    assert report.run.environment.facts["gpus"] == "H100, H100"
    assert {warning.kind for warning in report.measurements[0].warnings} == {"remote_session"}


def test_warm_up_requests_are_left_out() -> None:
    report = imported("profile_export.jsonl", lambda row: row["metadata"].update(benchmark_phase="warmup"))
    assert len(report.measurements[0].requests) == 5


@pytest.mark.parametrize("name", PEER_FILES)
def test_nothing_imported_stands_under_our_words(name: str) -> None:
    ours = METRICS.keys() - {one.name for one in PEERS} - {"send_lag_s", "error_share"}
    report = imported(name)
    assert report.run.kind == "import"
    for measurement in report.measurements:
        assert not [metric for metric in ours if process_value(metric, measurement) is not None]
    assert all(one.case.weights.startswith(IMPORTED) for one in report.run.planned)


@pytest.mark.parametrize("name", PEER_FILES)
def test_reading_twice_gives_the_same_run(name: str) -> None:
    assert imported(name) == imported(name)
    assert Report.from_json(imported(name).to_json()) == imported(name)


def test_our_own_report_comes_in_as_it_was() -> None:
    report = make_report()
    assert read_report(read_source("report.json", report.to_json())) == report


def test_joined_reports_are_processes_of_one_run() -> None:
    reports = [imported("vllm-bench-detailed.json"), imported("vllm-bench.json")]
    report = joined(reports)
    assert [one.process for one in report.measurements] == [0, 1]
    assert report.run.planned[0].processes == 2
    assert joined(reports[::-1]) == report
    assert report.run.run_id not in {one.run.run_id for one in reports}
    assert {one.attempt_id for one in report.measurements} == {one.measurements[0].attempt_id for one in reports}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("vllm-bench.json", "vllm-bench.json"), "given twice"),
        (("vllm-bench.json", "guidellm.json"), "different tools, versions or machines"),
        ((None, None), "without --join"),
    ],
)
def test_what_cannot_be_joined(names: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        joined([imported(name) if name else make_report() for name in names])


def _set(path: str, given: Any) -> Callable[[Any], None]:
    def change(row: Any) -> None:
        *inner, last = path.split(".")
        for key in inner:
            row = row[int(key) if isinstance(row, list) else key]
        row[last] = given

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("llama-bench.json", _set("samples_ns", []), r"test 1\.samples_ns: tuple should have at least 1 item"),
        ("llama-bench.json", _set("samples_ns", [0]), r"samples_ns\[0\]: input should be greater than 0"),
        ("llama-bench.json", _set("samples_ns", [float("nan")]), r"samples_ns\[0\]: input should be a finite number"),
        ("llama-bench.json", _set("n_prompt", 0), "measures nothing"),
        ("llama-bench.json", _set("n_gen", -1), "n_gen: input should be greater"),
        ("llama-bench.json", _set("cpu_info", "another"), "several machines or builds"),
        ("llama-bench.json", _set("test_time", "yesterday"), "test_time: "),
        ("llama-bench.json", _set("model_filename", "\ud800"), "holds values that no llama-bench report has"),
        ("vllm-bench.json", _set("date", "today"), "is no date such as"),
        ("vllm-bench.json", _set("duration", 1e300), "holds values that no vllm-bench report has"),
        ("vllm-bench.json", _set("request_rate", "fast"), "request_rate"),
        ("vllm-bench-detailed.json", _set("ttfts", [1.0]), "differ in length"),
        ("vllm-bench-detailed.json", _set("itls", 3), "itls: input should be a valid tuple"),
        ("guidellm.json", _set("benchmarks", []), "benchmarks: tuple should have at least 1 item"),
        ("guidellm.json", _set("benchmarks.0.config.strategy.type_", "later"), "strategy 'later' is none that this version knows"),
        ("guidellm.json", _set("benchmarks.0.start_time", 1e300), "holds values that no guidellm report has"),
        ("profile_export_aiperf.json", _set("input_config.phases", []), "holds 0 profiling phases"),
        ("profile_export_aiperf.json", _set("input_config.models", None), "input_config.models: "),
        ("profile_export.jsonl", _set("metrics.request_latency.unit", "weeks"), "'weeks' is no unit of time"),
    ],
)  # fmt: skip
def test_wrong_values_end_with_one_sentence(name: str, change: Callable[[Any], None], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        imported(name, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " \n", "no JSON", "[" * 100_000, '{"a": 1}\n{"a":', "9" * 5000])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(UsageError, match=r"^x is (empty|neither JSON nor JSON Lines)"):
        read_source("x", text)


@pytest.mark.parametrize("text", ["[]", "{}", "3", "null", '[{"a": 1}]', '{"schema": 1}', '{"schema": "case/1"}'])
def test_unknown_formats_name_the_known_ones(text: str) -> None:
    with pytest.raises(
        UsageError, match="in no format that can be imported: these can be: gemmeter, llama-bench, vllm-bench, guidellm, aiperf"
    ):
        read_report(read_source("x", text))


def test_a_format_that_it_is_not() -> None:
    with pytest.raises(UsageError, match="no aiperf report"):
        read_report(source("guidellm.json"), "aiperf")


@pytest.mark.parametrize("name", PEER_FILES)
def test_a_file_that_was_cut_off(name: str) -> None:
    text = (FIXTURES / name).read_text()
    with pytest.raises(UsageError, match="cut off"):
        read_source(name, text[: len(text) * 9 // 10])


def test_our_reports_of_other_versions_and_doubled_parts() -> None:
    fields = json.loads(make_report().to_json())
    with pytest.raises(UsageError, match="report of another version"):
        read_report(read_source("x", json.dumps(fields | {"schema": "report/9"})))
    doubled = fields | {"measurements": fields["measurements"][:1] * 2}
    with pytest.raises(UsageError, match="stands in it twice"):
        read_report(read_source("x", json.dumps(doubled)))


@pytest.mark.parametrize("run_id", ["", "latest", "-x", "a b", "../a", "\x1b[2Ja", "a\n"])
def test_a_run_whose_id_cannot_be_named_is_refused(run_id: str) -> None:
    fields = json.loads(make_report(run_id=run_id).to_json())
    with pytest.raises(UsageError, match="is no id of a run") as found:
        read_report(read_source("x", json.dumps(fields)))
    assert str(found.value).isprintable()


def test_lines_end_with_a_newline_alone() -> None:
    (first, second) = read_source("x", '{"a": "one\u2028two\x85"}\r\n{"a": 2}\n').rows
    assert (first, second) == ({"a": "one\u2028two\x85"}, {"a": 2})


def test_joining_keeps_tags_and_loses_nothing() -> None:
    one = read_report(source("guidellm.json"))
    assert joined([one.model_copy(update={"tags": ("b", "a"), "events": ()})]).tags == ("a", "b")
    failed = make_failure("f", one.run.planned[0].case, run_id=one.run.run_id)
    foreign = one.measurements[0].model_copy(update={"case_id": "c1-other"})
    for part, words in (({"failures": (failed,)}, "import it without --join"), ({"measurements": (foreign,)}, "not of this run")):
        with pytest.raises(UsageError, match=words):
            joined([one.model_copy(update=part)])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=3,
)
MARKS = ("llama-bench.json", "vllm-bench-detailed.json", "guidellm.json", "profile_export_aiperf.json", "profile_export.jsonl")


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MARKS), st.data())
def test_any_json_is_a_report_or_a_sentence(name: str, data: st.DataObject) -> None:
    """Some part of a real file, at some depth, becomes something else."""
    found = source(name)
    place: Any = found.rows[0]
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    try:
        assert read_report(found).measurements
    except UsageError as error:
        assert "\n" not in str(error)


def test_formats_have_a_fixture_and_exports_are_recognised() -> None:
    recognised = {name for name, reader in READERS.items() for file in PEER_FILES if reader.matches(source(file))}
    assert recognised == READERS.keys() - {"gemmeter"}
    assert READERS["gemmeter"].matches(read_source("x", FORMATS["json"](make_report())))
