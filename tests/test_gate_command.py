"""`bench gate` and `bench compare`: what they print and write, and how they end."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import START, make_environment, make_report, store_report
from judgements import CALIBRATION
from terminal import run_bench

from bench.cli import bench
from results.decided import Baseline
from results.store import Store

BASE, SLOWER, OTHER, SAME = (f"2026030{day}-120000-{letter * 4}" for day, letter in enumerate("abcd", 1))
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("utc")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base, pinned as baseline `main`; one 20 % slower, one on another machine, and the newest, which is like the base."""
    path = tmp_path_factory.mktemp("template") / "results.db"
    with Store.writing(str(path)) as store:
        for day, (run_id, slower, cpus) in enumerate(((BASE, 1.0, 2), (SLOWER, 1.2, 2), (OTHER, 1.0, 8), (SAME, 1.0, 2))):
            report = make_report(run_id=run_id, slower=slower, seed=day + 1, started_at=START + timedelta(days=day))
            run = report.run.model_copy(update={"environment": make_environment(cpu_count=cpus)})
            store_report(store, report.model_copy(update={"run": run, "tags": ()}))
        store.add_baseline(Baseline(name="main", reference=None, run_ids=(BASE,), author="me", reason="first", at=START))
        store.add_calibration(CALIBRATION)
    return path


@pytest.fixture
def url(template: Path, tmp_path: Path) -> str:
    return str(shutil.copy(template, tmp_path / "results.db"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 0),
        ((SLOWER,), 1),
        ((OTHER,), 4),
        ((OTHER, "--allow-env-diff", "cpu_count"), 0),
        ((SLOWER, "--against", SAME), 1),
        ((SAME, "--against", SLOWER), 0),
        ((BASE,), 4),
        (("nosuch",), 2),
        (("",), 2),
        ((SAME, "--against", ""), 2),
        ((SAME, "--against", "nosuch"), 2),
        ((SAME, "--allow-env-diff", "cpus"), 2),
        ((SAME, "--policy", "nosuch.yaml"), 2),
        ((SAME, "--output", "gate.pdf"), 2),
        (("--until-decided",), 2),
        (("--until-decided", "--suite", "quickstart", "--a", ""), 2),
        (("--until-decided", "--suite", "quickstart", "--a", "folder=.", "--b", ""), 2),
        (("--suite", ""), 2),
        ((SAME, "--until-decided", "--suite", "quickstart"), 2),
        (("--most", "5"), 2),
        (("--a", "python=x"), 2),
    ],
)
def test_exit_codes(url: str, arguments: tuple[str, ...], code: int) -> None:
    assert run_bench("gate", *arguments, "--store", url).code == code


def test_a_run_is_not_compared_with_itself(url: str) -> None:
    assert run_bench("compare", "main", BASE, "--store", url).code == 4


def test_a_report_of_a_case_that_was_not_planned_is_refused(url: str, tmp_path: Path) -> None:
    """Its cases are paired by the plan, so nobody would miss it."""
    path = tmp_path / "base.json"
    report = make_report()
    path.write_text(
        report.model_copy(update={"run": report.run.model_copy(update={"planned": report.run.planned[1:]})}).to_json()
    )
    found = run_bench("gate", SAME, "--against", str(path), "--store", url)
    assert (found.code, "its run did not plan" in found.error) == (2, True)


def test_reports_are_written_although_the_step_summary_cannot_be(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nosuch" / "summary"))
    written = tmp_path / "gate.json"
    assert run_bench("gate", SLOWER, "--github", "--output", str(written), "--store", url).code == 2
    assert json.loads(written.read_text())["exit_code"] == 1


def test_a_refusal_is_one_line_and_no_workflow_command(url: str, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    report = make_report()
    run = report.run.model_copy(update={"run_id": "x\n::error::boom"})
    path.write_text(report.model_copy(update={"run": run, "measurements": (), "failures": (), "scores": ()}).to_json())
    found = CliRunner().invoke(bench, ["gate", SAME, "--against", str(path), "--github", "--store", url], standalone_mode=False)
    assert found.return_value == 4
    assert found.stderr.startswith("Error: Nothing was measured in both x ::error::boom")
    assert found.stderr.count("\n") == 1


def test_without_a_baseline_there_is_no_pass_and_still_a_report(tmp_path: Path) -> None:
    url, written = str(tmp_path / "results.db"), tmp_path / "gate.json"
    with Store.writing(url) as store:
        store_report(store, make_report())
    assert run_bench("gate", "--store", url, "--output", str(written)).code == 4
    found = json.loads(written.read_text())
    assert (found["verdict"], found["exit_code"]) == ("not_comparable", 4)
    assert "bench baseline set main" in found["refusal"]


def test_a_run_against_itself_proves_nothing(url: str) -> None:
    assert "is on both sides" in run_bench("gate", BASE, "--format", "md", "--store", url).output
    assert run_bench("gate", SAME, "--against", SAME, "--store", url).code == 4


def test_all_files_are_written_at_once_also_where_the_sides_must_not_be_compared(url: str, tmp_path: Path) -> None:
    for run, verdict in ((SLOWER, "regression"), (OTHER, "not_comparable")):
        files = [tmp_path / f"{run}.{suffix}" for suffix in ("md", "html", "json", "xml")]
        run_bench("gate", run, "--store", url, *(word for file in files for word in ("-o", str(file))))
        assert [file.read_text()[:9] for file in (files[1], files[3])] == ["<!DOCTYPE", "<?xml ver"]
        assert json.loads(files[2].read_text())["verdict"] == verdict
        assert files[0].read_text().startswith(f"# {verdict.replace('_', ' ').capitalize()}: quickstart")


def test_a_wrong_name_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    found = run_bench("gate", "--output", "gate.pdf", "--store", str(tmp_path / "none.db"))
    assert "gate.pdf does not tell its format" in found.error


def test_github_gets_annotations_and_a_summary_and_no_command_from_what_was_measured(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    found = run_bench("gate", SLOWER, "--github", "--store", url)
    assert found.code == 1
    first, *lines = found.output.splitlines()
    token = first.removeprefix("::stop-commands::")
    assert len(token) == 32
    end = lines.index(f"::{token}::")
    assert any("TPOT" in line for line in lines[:end])
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines[end + 1 :])
    assert summary.read_text().startswith("# Before\n# Regression: quickstart\n")


def test_what_was_calibrated_how_to_repeat_and_how_to_accept(url: str) -> None:
    text = run_bench("gate", SLOWER, "--format", "md", "--store", url).output
    assert "in at most 5 of 400" in text
    assert f"bench gate {SLOWER} --against {BASE}\n" in text
    assert f"bench baseline accept main {SLOWER} --reason TEXT\n" in text
    text = run_bench("gate", SLOWER, "--against", SAME, "--format", "md", "--store", url).output
    assert "bench baseline accept" not in text


def test_what_repeats_it_names_no_place_of_this_machine(url: str, tmp_path: Path) -> None:
    policy = tmp_path / "strict.yaml"
    policy.write_text("name: strict\nrules: [{metrics: [tpot_s], margin: 1%}]\n")
    with Store.reading(url) as store:
        (tmp_path / "base.json").write_text(store.report(BASE).to_json())
    found = run_bench(
        "gate", SLOWER, "--against", str(tmp_path / "base.json"), "--policy", str(policy), "--format", "md", "--store", url
    )
    assert f"bench gate {SLOWER} --against base.json --policy strict.yaml\n" in found.output
    assert str(tmp_path) not in found.output


def test_exported_reports_are_judged_on_another_machine_without_a_store(url: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{run}.json" for run in (BASE, SLOWER)]
    for file in files:
        assert run_bench("export", file.stem, "--output", str(file), "--store", url).code == 0
    elsewhere = str(tmp_path / "none.db")
    found = run_bench("gate", str(files[1]), "--against", str(files[0]), "--format", "json", "--store", elsewhere)
    assert (found.code, json.loads(found.output)["calibration"]) == (1, None)
    stored = json.loads(run_bench("gate", SLOWER, "--format", "json", "--store", url).output)
    told = [(row["metric"], row["verdict"], row["low"], row["high"]) for row in json.loads(found.output)["rows"]]
    assert told == [(row["metric"], row["verdict"], row["low"], row["high"]) for row in stored["rows"]]
    assert not Path(elsewhere).exists()


def test_compare_draws_each_format_and_the_table(url: str, tmp_path: Path) -> None:
    for name, start in (("md", "# Regression"), ("html", "<!DOCTYPE"), ("json", "{"), ("junit", "<?xml"), ("github", "::error")):
        found = run_bench("compare", BASE, SLOWER, "--format", name, "--store", url)
        assert (found.code, found.output.startswith(start)) == (1, True), name
    written = tmp_path / "c.html"
    found = run_bench("compare", BASE, SLOWER, "--store", url, "--output", str(written))
    assert "Verdict" in found.output
    assert "<svg" in written.read_text()


def test_compare_shows_what_differs_where_it_refuses(url: str) -> None:
    found = run_bench("compare", BASE, OTHER, "--store", url)
    assert found.code == 4
    assert "cpu_count (hard)" in found.output
    assert "Verdict" not in found.output


def test_output_that_cannot_be_written_is_no_verdict(url: str, tmp_path: Path) -> None:
    found = run_bench("gate", SAME, "--output", str(tmp_path / "none" / "gate.md"), "--store", url)
    assert (found.code, "cannot be written" in found.error) == (2, True)
