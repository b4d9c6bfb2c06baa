"""Plans: what a new run and a resumed one will do, and when resuming is refused."""

from pathlib import Path

import pytest

from bench.plan import new_plan, preview, rest_of
from results.errors import NotComparableError, UsageError
from results.records import Environment, Report, RunEvent

SUITE = "name: tiny\nquestion: Q?\nmatrix: {{model: [{model}], output_tokens: [4, 8]}}\nworkload: {{prompt_tokens: 16}}\n"


@pytest.fixture
def suite(tmp_path: Path, tiny_gemma: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(SUITE.format(model=tiny_gemma))
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


def test_other_kernels_do_not_hinder(suite: str) -> None:
    run = new_plan(suite, {}, 7, ("bench",)).run
    changed = run.model_copy(update={"environment": Environment(facts=run.environment.facts | {"kernel": "9.9"})})
    assert rest_of(Report(run=changed), retry_failed=False).batches


def test_changed_weights_are_noticed(suite: str, tmp_path: Path, tiny_gemma: Path) -> None:
    import shutil

    mine = tmp_path / "mine"
    shutil.copytree(tiny_gemma, mine)
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
    tiny_gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tiny_gemma.parent)
    for reference in (f"./{tiny_gemma.name}", tiny_gemma.name):
        suite, expansion, _ = preview("quickstart", {"model": reference})
        assert {model.reference for model in expansion.models.values()} == {str(tiny_gemma)}
        assert suite.source()["defaults"]["model"] == str(tiny_gemma)
