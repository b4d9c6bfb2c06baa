"""`bench import`: what comes into the store, what is refused, and what imported runs can be compared with."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import make_report, store_report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from terminal import run_bench

from bench.commands.import_ import import_
from results.export import FORMATS
from results.store import Store

pytestmark = pytest.mark.slow
FIXTURES = Path(__file__).parent / "fixtures" / "imports"
OURS, OTHER = "20260301-120000-aaaa", "20260302-120000-bbbb"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place with the fixtures, and a store that is not there yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_STORE", str(tmp_path / "results.db"))
    for file in FIXTURES.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def run_ids() -> list[str]:
    return [one["run_id"] for one in json.loads(run_bench("show", "--json").output)]


def imported(*arguments: str) -> list[str]:
    done = run_bench("import", *arguments, "--json")
    assert done.code == 0, done.error
    return [one["run_id"] for one in json.loads(done.output)]


def slower(name: str, factor: float, marks: int) -> str:
    """A copy of the vLLM fixture whose times are `factor` longer, of another moment."""
    fields = json.loads((FIXTURES / "vllm-bench-detailed.json").read_text())
    for key in ("ttfts", "latencies"):
        fields[key] = [one * factor * (1 + marks / 1000) for one in fields[key]]
    fields["date"] = f"20261122-0911{marks:02}"
    Path(name).write_text(json.dumps(fields))
    return name


def test_exports_come_in_as_they_were(folder: Path) -> None:
    with Store.writing("elsewhere.db") as store:
        for report in (make_report(), make_report(run_id=OTHER, seed=2)):
            store_report(store, report)
            (folder / f"{report.run.run_id}.json").write_text(FORMATS["json"](store.report(report.run.run_id)))
    assert run_bench("import", f"{OURS}.json", f"{OTHER}.json").output == (
        f"Imported {OURS}: 4 cases of quickstart.\nImported {OTHER}: 4 cases of quickstart.\n"
    )
    for run_id in (OURS, OTHER):
        assert run_bench("export", run_id, "--format", "json").output == (folder / f"{run_id}.json").read_text()


def test_what_is_there_is_left_as_it_is(folder: Path) -> None:
    assert run_bench("import", "guidellm.json", "--tag", "first").output.startswith("Imported 20261122-080518-")
    again = run_bench("import", "guidellm.json", "--tag", "second")
    assert (again.code, again.output) == (0, f"{run_ids()[0]} is there already.\n")
    with Store.reading(str(folder / "results.db")) as store:
        assert store.report(run_ids()[0]).tags == ("first", "second")


def test_a_run_with_more_in_it_is_refused(folder: Path) -> None:
    report = make_report()
    part = report.model_copy(update={"measurements": report.measurements[:2], "scores": ()})
    (folder / "part.json").write_text(part.to_json())
    (folder / "whole.json").write_text(report.to_json())
    assert run_bench("import", "part.json").code == 0
    refused = run_bench("import", "whole.json")
    assert (refused.code, refused.error) == (
        2, f"Run {OURS} is in the store with other content: `bench rm {OURS}` makes room for this one.",
    )  # fmt: skip


def test_other_figures_under_the_same_ids_are_refused(folder: Path) -> None:
    (folder / "ours.json").write_text(make_report().to_json())
    (folder / "edited.json").write_text(make_report(slower=0.5).to_json())
    both = run_bench("import", "ours.json", "edited.json")
    assert (both.code, both.error) == (
        2, f"Two of the files hold run {OURS} with different content: name the one that you mean.",
    )  # fmt: skip
    assert run_bench("import", "ours.json", "ours.json").code == 0
    assert "with other content" in run_bench("import", "edited.json").error


@pytest.mark.parametrize("part", ["measurements", "failures", "requests"])
def test_what_belongs_to_another_run_is_refused(folder: Path, part: str) -> None:
    report = make_report()
    text = report.to_json().replace(OURS, OTHER)
    other = json.loads(text.replace(f'"{OTHER}-', f'"{OURS}-') if part == "requests" else text)
    for kind in ("measurements", "failures"):
        for number, one in enumerate(other[kind]):
            if kind == part:
                one["attempt_id"] = json.loads(report.to_json())[kind][number]["attempt_id"]
            elif part == "requests":
                one["attempt_id"] += "-another"
    (folder / "ours.json").write_text(report.to_json())
    (folder / "other.json").write_text(json.dumps(other))
    assert run_bench("import", "ours.json").code == 0
    refused = run_bench("import", "other.json")
    assert refused.code == 2
    assert ("cannot be stored" if part == "requests" else f"imported already, in run {OURS}") in refused.error
    assert run_ids() == [OURS]


def test_both_files_of_one_profile_are_one_run(folder: Path) -> None:
    assert len(imported("profile_export_aiperf.json", "profile_export.jsonl")) == 1
    assert len(run_ids()) == 1


def test_names_that_are_given(folder: Path) -> None:
    (run_id,) = imported("vllm-bench.json", "--format", "vllm-bench", "--suite", "nightly", "--tag", "main")
    with Store.reading(str(folder / "results.db")) as store:
        report = store.report(run_id)
    assert (report.run.suite, report.tags) == ("nightly", ("main",))
    assert imported("vllm-bench.json", "--format", "vllm-bench") == [run_id]
    again = run_bench("import", "vllm-bench.json", "--format", "vllm-bench", "--suite", "weekly")
    assert (again.code, f"Run {run_id} is in the store in the suite nightly" in again.error) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("vllm-bench.json", "--format", "vlm-bench"), "No format 'vlm-bench', did you mean 'vllm-bench'?"),
        (("vllm-bench.json", "--tag", "latest"), "means a run already"),
        (("vllm-bench.json", "--suite", ""), "'' is no name for a suite"),
        (("ours.json", "--suite", "mine"), "leave --suite out"),
        (("nosuch.json",), "nosuch.json cannot be read: No such file or directory."),
        (("binary",), "binary cannot be read: it is not UTF-8 text; unpack it, or save it as such."),
        (("empty",), "empty is empty"),
        (("unknown.json",), "in no format that can be imported"),
        ((".",), "cannot be read: Is a directory."),
    ],
)
def test_wrong_usage_ends_with_a_sentence_and_no_store(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    (folder / "ours.json").write_text(make_report().to_json())
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    (folder / "empty").write_text("")
    (folder / "unknown.json").write_text('{"a": 1}')
    done = run_bench("import", "llama-bench.json", *arguments)
    assert done.code == 2
    assert words in done.error
    assert not (folder / "results.db").exists()


def test_a_file_that_is_too_large_is_not_read(folder: Path) -> None:
    with (folder / "huge.json").open("wb") as file:
        file.truncate(2**30 + 1)
    assert "more than 1 GiB" in run_bench("import", "huge.json").error


def test_two_imports_of_one_tool_are_compared(folder: Path) -> None:
    base = imported(*[slower(f"a{n}.json", 1.0, n) for n in range(3)], "--join")
    same = imported(*[slower(f"b{n}.json", 1.0, n + 10) for n in range(3)], "--join")
    worse = imported(*[slower(f"c{n}.json", 1.2, n + 20) for n in range(3)], "--join")
    assert run_bench("compare", *base, *same).code == 0
    done = run_bench("compare", *base, *worse, "--json")
    assert done.code == 1
    found = {row["metric"]: row for row in json.loads(done.output)["rows"]}
    assert {"vllm_ttft_s", "vllm_e2e_s"} <= found.keys()
    assert found["vllm_e2e_s"]["ratio"] == pytest.approx(1.2, rel=0.03)
    assert run_bench("compare", *imported("a0.json", "--store", "one.db"), *base).code == 2  # it is in another store


def test_one_process_a_side_is_no_verdict(folder: Path) -> None:
    a, b = imported("vllm-bench-detailed.json", slower("b.json", 1.5, 1))
    assert run_bench("compare", a, b).code == 3


def test_a_part_of_a_joined_run_does_not_come_in_again(folder: Path) -> None:
    imported(slower("a.json", 1.0, 1), slower("b.json", 1.0, 2), "--join")
    refused = run_bench("import", "a.json")
    assert refused.code == 2
    assert "was imported already, in run" in refused.error
    assert len(run_ids()) == 1


@pytest.mark.parametrize("name", ["llama-bench.json", "vllm-bench.json", "guidellm.json", "profile_export_aiperf.json"])
def test_an_import_is_never_compared_with_a_run_of_ours(folder: Path, name: str) -> None:
    (folder / "ours.json").write_text(make_report(with_failure=False).to_json())
    ours, theirs = imported("ours.json", name)
    for a, b in ((ours, theirs), (theirs, ours)):
        assert run_bench("compare", a, b).code == 4
        allowed = [one for key in ("system", "machine", "cpu_model", "cpu_count", "gpus") for one in ("--allow-env-diff", key)]
        assert run_bench("compare", a, b, *allowed).code == 4


def test_two_tools_have_nothing_in_common(folder: Path) -> None:
    a, b = imported("guidellm.json", "vllm-bench.json")
    assert run_bench("compare", a, b).code == 4


def test_llama_bench_on_another_cpu_is_not_comparable(folder: Path) -> None:
    text = (folder / "llama-bench.json").read_text()
    (folder / "other.json").write_text(text.replace("Xeon", "Core"))
    assert run_bench("compare", *imported("llama-bench.json", "other.json")).code == 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    st.text() | st.binary() | st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_any_file_ends_with_a_sentence(folder: Path, content: object) -> None:
    if isinstance(content, bytes):
        (folder / "any").write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "any").write_text(text, encoding="utf-8", errors="replace")
    assert run_bench("import", "any").code == 2


def test_a_name_with_control_characters_is_shown_without_them(folder: Path) -> None:
    code = "from bench.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "import", "\x1b]0;title\x07none"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "Error: none cannot be read: No such file or directory.\n")


def test_the_help_names_every_tool() -> None:
    assert all(tool in (import_.help or "") for tool in ("llama-bench", "vLLM bench", "GuideLLM", "AIPerf"))
