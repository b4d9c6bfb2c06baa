"""Plans: what a new run and a resumed one will do, and when resuming is refused."""

import re
from pathlib import Path

import pytest

from bench.plan import extended, new_plan, preview, rest_of, with_estimates
from bench.suite import Suite
from results.errors import NotComparableError, UsageError
from results.records import Environment, Report, RunEvent

SUITE = "name: tiny\nquestion: Q?\nmatrix: {{model: [{model}], output_tokens: [4, 8]}}\nworkload: {{prompt_tokens: 16}}\n"


@pytest.fixture
def suite(tmp_path: Path, gemma_files: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(SUITE.format(model=gemma_files))
    return str(tmp_path / "tiny.yaml")


def test_a_stopped_run_plans_the_rest_in_the_same_order(suite: str) -> None:
    plan = new_plan(suite, {}, 7, ("bench",))
    rest = rest_of(Report(run=plan.run), retry_failed=False)
    assert rest.batches == plan.batches
    assert rest.resumed
    assert len(plan.batches) == 3


@pytest.mark.parametrize("fact", ["cpu_model", "torch", "python"])
def test_resuming_elsewhere_or_with_other_libraries_is_refused(suite: str, fact: str) -> None:
    run = new_plan(suite, {}, 7, ("bench",)).run
    changed = run.model_copy(update={"environment": Environment(facts=run.environment.facts | {fact: "another"})})
    with pytest.raises(NotComparableError, match=fact):
        rest_of(Report(run=changed), retry_failed=False)


@pytest.mark.parametrize(
    ("workload", "overrides", "packages"),
    [
        ("{finetune: {}}", {}, {"peft", "trl", "datasets"}),
        ("{prompt_tokens: 16}", {"kv_cache": "quantized"}, {"optimum-quanto"}),
        ("{prompt_tokens: 16}", {"attention": "flash-attention-2"}, {"flash-attn"}),
        ("{prompt_tokens: 16}", {"quantization": "int8"}, {"bitsandbytes"}),
        ("{prompt_tokens: 16}", {}, set()),
    ],
)
def test_what_trains_or_quantizes_is_a_fact_that_resuming_heeds(
    suite: str, workload: str, overrides: dict[str, str], packages: set[str]
) -> None:
    Path(suite).write_text(Path(suite).read_text().replace("{prompt_tokens: 16}", workload).replace("[4, 8]", "[4]"))
    run = new_plan(suite, overrides, 7, ("bench",)).run
    further = {"peft", "trl", "datasets", "optimum-quanto", "flash-attn", "bitsandbytes"}
    assert run.environment.facts.keys() & further == packages
    for package in packages:
        changed = run.model_copy(update={"environment": Environment(facts=run.environment.facts | {package: "another"})})
        with pytest.raises(NotComparableError, match=package):
            rest_of(Report(run=changed), retry_failed=False)


@pytest.mark.parametrize("variables", [("1", None), (None, "1"), ("1", "2")])
def test_resuming_with_other_variables_is_refused(
    suite: str, variables: tuple[str | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(value: str | None) -> None:
        if value is None:
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", value)

    put(variables[0])
    report = Report(run=new_plan(suite, {}, 7, ("bench",)).run)
    assert rest_of(report, retry_failed=False).batches
    put(variables[1])
    with pytest.raises(NotComparableError, match="variable OMP_NUM_THREADS differ"):
        rest_of(report, retry_failed=False)


def test_other_kernels_do_not_hinder(suite: str) -> None:
    run = new_plan(suite, {}, 7, ("bench",)).run
    changed = run.model_copy(update={"environment": Environment(facts=run.environment.facts | {"kernel": "9.9"})})
    assert rest_of(Report(run=changed), retry_failed=False).batches


def test_changed_weights_are_noticed(suite: str, tmp_path: Path, gemma_files: Path) -> None:
    import shutil

    mine = tmp_path / "mine"
    shutil.copytree(gemma_files, mine)
    run = new_plan(suite, {"model": str(mine)}, 7, ("bench",)).run
    (mine / "config.json").write_text((mine / "config.json").read_text() + " ")
    with pytest.raises(NotComparableError, match="weights"):
        rest_of(Report(run=run), retry_failed=False)


def test_a_finished_run_has_no_rest(suite: str) -> None:
    from fakes import START, make_measurement

    plan = new_plan(suite, {}, 7, ("bench",))
    done = [
        make_measurement(f"m{n}{batch.process}", one.case, process=batch.process)
        for batch in plan.batches
        for n, one in enumerate(batch.cases)
    ]
    report = Report(run=plan.run, measurements=tuple(done), events=(RunEvent(run_id="r", at=START, kind="finished"),))
    with pytest.raises(UsageError, match="nothing is left"):
        rest_of(report, retry_failed=False)


def test_a_model_given_on_the_command_line_is_relative_to_the_current_folder(
    gemma_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(gemma_files.parent)
    for reference in (f"./{gemma_files.name}", gemma_files.name):
        suite, expansion, _ = preview("quickstart", {"model": reference})
        assert {model.reference for model in expansion.models.values()} == {str(gemma_files)}
        assert suite.source()["defaults"]["model"] == str(gemma_files)


def test_every_case_is_planned_with_its_estimate(suite: str) -> None:
    planned = new_plan(suite, {}, 7, ("bench",)).run.planned
    short, long = (one.estimate for one in planned)
    assert short and long
    assert short.weights_bytes == long.weights_bytes > 0
    assert long.kv_cache_bytes > short.kv_cache_bytes
    assert short.fits


def test_free_memory_is_asked_once_for_each_device(suite: str) -> None:
    asked: list[tuple[str, int]] = []

    def free(device: str, count: int) -> int:
        asked.append((device, count))
        return 1000

    estimated = with_estimates(preview(suite, {})[1], free).planned
    assert len(asked) == 1
    assert [one.estimate.fits for one in estimated if one.estimate] == [False, False]
    assert {one.estimate.available_bytes for one in estimated if one.estimate} == {1000}


def test_models_whose_dimensions_are_not_known_have_no_estimate(suite: str, tmp_path: Path, gemma_files: Path) -> None:
    import shutil

    mine = tmp_path / "mine"
    shutil.copytree(gemma_files, mine)
    (mine / "config.json").write_text('{"model_type": "mamba"}')
    planned = new_plan(suite, {"model": str(mine)}, 7, ("bench",)).run.planned
    assert [one.estimate for one in planned] == [None, None]


def test_the_wish_to_leave_out_what_does_not_fit_is_part_of_the_run(suite: str) -> None:
    plain, wished = new_plan(suite, {}, 7, ("bench",)), new_plan(suite, {}, 7, ("bench",), skip_unfit=True)
    assert wished.suite.skip_unfit and not plain.suite.skip_unfit
    assert "skip_unfit" not in plain.run.suite_source
    assert wished.run.suite_hash != plain.run.suite_hash
    assert Suite.model_validate(wished.run.suite_source).skip_unfit
    assert rest_of(Report(run=wished.run), retry_failed=False).suite.skip_unfit


def test_a_resumed_run_keeps_its_estimates_and_its_order(suite: str) -> None:
    run = new_plan(suite, {}, 7, ("bench",)).run
    first, second = run.planned
    assert first.estimate
    unfit = first.model_copy(update={"estimate": first.estimate.model_copy(update={"available_bytes": 1})})
    for seed in range(10):
        stopped = run.model_copy(update={"planned": (unfit, second), "seed": seed})
        batches = rest_of(Report(run=stopped), retry_failed=False).batches
        assert [[one.case.output_tokens for one in batch.cases] for batch in batches] == [[8, 4]] * 3


def test_paths_on_the_command_line_start_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(f"adapter: {tmp_path / 'nope'} holds no adapter_config.json")):
        preview("batch", {"adapter": "./nope"})


@pytest.mark.parametrize("size", [0, "lots"])
def test_a_memory_limit_is_a_size_above_zero(size: object) -> None:
    with pytest.raises(UsageError, match="memory_limit"):
        preview("batch", {"memory_limit": size})


def test_a_run_is_extended_by_processes_of_some_cases_or_all(suite: str) -> None:
    with_quality = Path(suite).read_text() + "quality: [heuristic-v1]\n"
    Path(suite).write_text(with_quality)
    run = new_plan(suite, {"processes": 2}, 7, ("bench",)).run
    short, long, quality = run.planned
    assert quality.case.purpose == "quality"

    def processes(*references: str, count: int = 5) -> list[int]:
        return [one.processes for one in extended(run, count, references).planned]

    assert processes() == [5, 5, 1]
    assert processes(long.case.case_id[:9]) == [2, 5, 1]
    assert processes(quality.case.case_id) == [2, 2, 1]
    assert processes(count=1) == [2, 2, 1]
    for reference, words in (("c1-", "several cases"), ("c9", "no case")):
        with pytest.raises(UsageError, match=f"--case {reference}: .* has {words} of this id"):
            extended(run, 5, (reference,))
    with pytest.raises(UsageError, match="nobody needs more than 1000 of a case"):
        extended(run, 1001)
    rest = rest_of(Report(run=extended(run, 3, (short.case.case_id,))), retry_failed=False)
    assert [len(batch.cases) for batch in rest.batches] == [3, 2, 1]


def test_an_imported_run_is_no_run_to_go_on_with(suite: str) -> None:
    run = new_plan(suite, {}, 7, ("bench",)).run.model_copy(update={"kind": "import", "suite_source": {"tool": "another"}})
    with pytest.raises(UsageError, match="was not measured by `bench run`"):
        rest_of(Report(run=extended(run, 5)), retry_failed=False)


def test_a_serving_sweep_is_not_extended(suite: str) -> None:
    run = new_plan(suite, {}, 7, ("bench",)).run
    sweep = run.model_copy(update={"suite_source": run.suite_source | {"serving": {"max_concurrency": 4}}})
    with pytest.raises(UsageError, match="serving sweep"):
        extended(sweep, 5)


def test_a_run_says_with_which_one_it_was_measured_in_turn(suite: str) -> None:
    assert new_plan(suite, {}, 7, ("bench",), paired_with="r1").run.paired_with == "r1"
    assert new_plan(suite, {}, 7, ("bench",)).run.paired_with is None
