"""Baselines: their moves, the commands that make them, and the runs that they hold."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import START, make_report, store_report
from stored import make_move
from terminal import Outcome, run_bench

from bench.baselines import accepted, standing, stands_for
from results.decided import Baseline
from results.records import RunEvent
from results.store import Store

FIRST, SECOND, THIRD = "20260301-120000-aaaa", "20260302-120000-bbbb", "20260303-120000-cccc"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two finished runs, the first tagged `v1`, and one that was interrupted."""
    path = str(tmp_path_factory.mktemp("template") / "results.db")
    with Store.writing(path) as store:
        for number, run_id in enumerate((FIRST, SECOND, THIRD)):
            at = START + timedelta(days=number)
            report = make_report(run_id=run_id, started_at=at, processes=1, with_failure=False)
            changes: dict[str, object] = {"tags": ("v1",) if run_id == FIRST else ()}
            if run_id == THIRD:
                changes["events"] = (RunEvent(run_id=run_id, at=at, kind="interrupted"),)
            store_report(store, report.model_copy(update=changes))
    return path


@pytest.fixture
def url(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return str(shutil.copy(template, tmp_path / "results.db"))


@pytest.fixture(scope="module")
def moved(template: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same store with baselines of each kind."""
    path = str(shutil.copy(template, tmp_path_factory.mktemp("moved") / "results.db"))
    with Store.writing(path) as store:
        for one in (
            make_move("pinned", FIRST), make_move("window", reference="rolling:5"), make_move("tagged", reference="tag:v1"),
            make_move("forked", reference="fork-point"), make_move("branched", reference="branch:main"),
            make_move("gone", FIRST), make_move("gone"),
        ):  # fmt: skip
            store.add_baseline(one)
    return path


def baseline(url: str, *arguments: str) -> Outcome:
    return run_bench("baseline", *arguments, "--store", url)


def moves(url: str) -> list[Baseline]:
    with Store.reading(url) as store:
        return store.baselines()


def test_the_newest_move_of_a_name_counts_until_it_is_taken_away() -> None:
    made = [
        make_move("b", "1"),
        make_move("a", reference="rolling:5"),
        make_move("b", "2", "3"),
        make_move("c", "4"),
        make_move("c"),
    ]
    found = standing(made)
    assert list(found) == ["a", "b"]
    assert [stands_for(one) for one in (*found.values(), made[-1])] == ["follows rolling:5", "2, 3", "removed"]
    assert accepted(made) == [made[2]]
    assert accepted([*made, make_move("c", "5"), make_move("a", "6"), make_move("a", reference="rolling:5")])[1:] == [
        make_move("a", "6")
    ]


def test_a_baseline_is_pinned_moved_and_taken_away_with_its_history(url: str) -> None:
    before = datetime.now(UTC)
    done = baseline(url, "set", "main", "v1", "--author", "Ada", "--reason", "released")
    assert (done.code, done.output) == (0, f"main: {FIRST}\n")
    done = baseline(url, "accept", "main", "2026-03-02".replace("-", ""), "--reason", "new kernels", "--author", "Grace")
    assert (done.code, done.output) == (0, f"main: {FIRST} → {SECOND}\n")
    assert baseline(url, "remove", "main", "--reason", "not needed", "--author", "Ada").output == f"main: {SECOND} → removed\n"

    found = moves(url)
    assert [(one.run_ids, one.author, one.reason) for one in found] == [
        ((FIRST,), "Ada", "released"),
        ((SECOND,), "Grace", "new kernels"),
        ((), "Ada", "not needed"),
    ]
    assert before <= found[0].at <= found[1].at <= found[2].at <= datetime.now(UTC)
    lines = baseline(url, "show", "main").output.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["removed", SECOND, FIRST]
    assert "new kernels" in lines[3]
    assert "no baselines yet" in baseline(url, "list").output
    shown = json.loads(baseline(url, "show", "main", "--json").output)
    assert [Baseline.from_json(json.dumps(one)) for one in shown] == found[::-1]
    assert json.loads(baseline(url, "list", "--json").output) == []


@pytest.mark.slow
def test_a_baseline_may_be_pinned_to_several_runs_or_follow(url: str) -> None:
    assert baseline(url, "set", "both", SECOND, "v1", "--author", "Ada").output == f"both: {FIRST}, {SECOND}\n"
    assert baseline(url, "set", "recent", "rolling:5:main", "--follow").output == "recent: follows rolling:5:main\n"
    assert (
        baseline(url, "set", "recent", "latest", "--force", "--reason", "x", "--author", "Ada").output
        == f"recent: follows rolling:5:main → {THIRD}\n"
    )
    lines = baseline(url, "list").output.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["both", FIRST], [SECOND], ["recent", THIRD]]
    assert moves(url)[1].author  # of git, or of the login


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("set", "new", "nosuch"), "No run, baseline, tag or branch 'nosuch' in this store"),
        (("set", "new", THIRD), f"Run {THIRD} was interrupted: finish it with `bench run --resume {THIRD}`"),
        (("set", "pinned", SECOND), "Baseline 'pinned' stands already: say why with --reason TEXT."),
        (("set", "pinned", SECOND, "--reason", " "), "say why with --reason"),
        (("set", "new", "rolling:5"), "rolling:5 means something beside another run only"),
        (("set", "new", "latest", "--follow"), "A baseline cannot follow 'latest'"),
        (("set", "new", "tag:v1", "tag:v2", "--follow"), "--follow takes one REF"),
        (("set", "a b", "v1"), "'a b' is no name for a baseline"),
        (("set", "2026", "v1"), "'2026' means a run already"),
        (("set", "latest", "v1"), "'latest' means a run already"),
        (("set", "fork-point", "v1"), "'fork-point' means something else"),
        (("set", "x.json", "v1"), "'x.json' means something else"),
        (("accept", "pinned", SECOND), ""),
        (("accept", "pinned", SECOND, "--reason", ""), "Moving baseline 'pinned': say why"),
        (("accept", "pind", SECOND, "--reason", "x"), "No baseline is called 'pind', did you mean 'pinned'?"),
        (("accept", "pinned", THIRD, "--reason", "x"), "take it as it is with --force"),
        (
            ("accept", "window", SECOND, "--reason", "x"),
            f"pin it there with `bench baseline set window {SECOND} --reason TEXT`",
        ),
        (("accept", "tagged", SECOND, "--reason", "x"), f"give the run its tag with `bench tag {SECOND} v1`"),
        (("accept", "forked", SECOND, "--reason", "x"), "it moves when the change is merged"),
        (("accept", "branched", SECOND, "--reason", "x"), "it moves with the next run on that branch"),
        (("accept", "gone", SECOND, "--reason", "x"), "No baseline is called 'gone'"),
        (("remove", "gone", "--reason", "x"), "No baseline is called 'gone'"),
        (("remove", "pinned", "--reason", ""), "Removing baseline 'pinned': say why"),
        (("show", "nosuch"), "No baseline is called 'nosuch'"),
    ],
)
def test_what_is_refused_moves_nothing(moved: str, arguments: tuple[str, ...], sentence: str) -> None:
    before = Path(moved).read_bytes()
    done = baseline(moved, *arguments)
    assert done.code == 2
    assert sentence in done.error
    assert Path(moved).read_bytes() == before


@pytest.mark.slow
def test_names_and_reasons_are_shown_as_plain_text(url: str) -> None:
    baseline(url, "set", "main", "v1", "--author", "\x1b[31mAda\x1b[0m", "--reason", "why\x1b]0;x\x07 not")
    shown = baseline(url, "list").output
    assert "\x1b" not in shown
    assert "why not" in shown


@pytest.mark.slow
def test_a_run_that_a_baseline_is_pinned_to_cannot_be_removed(url: str) -> None:
    baseline(url, "set", "main", "v1")
    done = run_bench("rm", SECOND, FIRST, "--yes", "--store", url)
    assert done.code == 2
    assert f"Baseline 'main' is pinned to run {FIRST}: move it with `bench baseline accept main RUN --reason TEXT`" in done.error
    with Store.reading(url) as store:
        assert len(store.runs()) == 3
    baseline(url, "accept", "main", SECOND, "--reason", "x")
    assert run_bench("rm", FIRST, "--yes", "--store", url).code == 0
    assert FIRST in baseline(url, "show", "main").output  # what it was stays known


@pytest.mark.slow
def test_a_tag_that_a_baseline_follows_holds_no_run(url: str) -> None:
    baseline(url, "set", "main", "tag:v1", "--follow")
    assert run_bench("rm", FIRST, "--yes", "--store", url).code == 0
    assert run_bench("compare", "main", SECOND, "--store", url).code == 4


def test_reading_commands_make_no_store(tmp_path: Path) -> None:
    for arguments in (("list",), ("show", "x"), ("set", "x", "latest"), ("accept", "x", "y", "--reason", "z")):
        assert baseline(str(tmp_path / "none.db"), *arguments).code == 2
    assert list(tmp_path.iterdir()) == []
