"""Commands on stored runs: compare, tag, rm and db, with their exit codes."""

import json
import os
import pty
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import START, make_environment, make_report, store_report
from terminal import run_bench

from bench.holding import hold_run
from results.store import Store

pytest_plugins = ["postgres"]

FIRST, SECOND, THIRD = "20260301-120000-aaaa", "20260302-120000-bbbb", "20260303-120000-cccc"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three runs: the base, one 20 % slower, and one on another machine."""
    path = str(tmp_path_factory.mktemp("template") / "results.db")
    slower = make_report(run_id=SECOND, slower=1.2, seed=2, started_at=START + timedelta(days=1))
    other = make_report(run_id=THIRD, seed=3, started_at=START + timedelta(days=2))
    other = other.model_copy(update={"run": other.run.model_copy(update={"environment": make_environment(cpu_count=8)})})
    with Store.writing(path) as store:
        store_report(store, make_report())
        store_report(store, slower.model_copy(update={"tags": ()}))
        store_report(store, other.model_copy(update={"tags": ()}))
    return path


@pytest.fixture
def url(template: str, tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return str(shutil.copy(template, tmp_path / "store" / "results.db"))


def tags_of(url: str, run_id: str) -> tuple[str, ...]:
    with Store.reading(url) as store:
        return store.report(run_id).tags


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("main", FIRST), 4),
        (("main", SECOND), 1),
        ((SECOND, "main"), 0),
        (("main", THIRD), 4),
        (("main", THIRD, "--allow-env-diff", "cpu_count"), 0),
        (("main", "nosuch"), 2),
        (("main", THIRD, "--allow-env-diff", "cpus"), 2),
    ],
)
def test_compare_exit_codes(url: str, arguments: tuple[str, ...], code: int) -> None:
    assert run_bench("compare", *arguments, "--store", url).code == code


def test_compare_shows_the_environments_before_the_rows(url: str) -> None:
    lines = run_bench("compare", "main", THIRD, "--allow-env-diff", "cpu_count", "--store", url).output.splitlines()
    environment = next(k for k, line in enumerate(lines) if line.startswith("cpu_count (hard)"))
    assert environment < next(k for k, line in enumerate(lines) if line.startswith("Verdict"))
    assert lines[-1] == "No change: 11 unchanged, 4 described only."


def test_compare_json_has_a_verdict_per_row_and_over_all(url: str) -> None:
    found = json.loads(run_bench("compare", "main", SECOND, "--json", "--store", url).output)
    assert found["verdict"] == "regression"
    assert [row["verdict"] for row in found["rows"]].count("regression") == 6


def test_compare_reads_exported_reports_without_a_store(tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(make_report().to_json())
    b.write_text(make_report(run_id=SECOND, slower=1.2, seed=2).to_json())
    assert run_bench("compare", str(a), str(b), "--store", str(tmp_path / "none.db")).code == 1
    assert run_bench("compare", str(b), str(a), "--store", str(tmp_path / "none.db")).code == 0
    assert not (tmp_path / "none.db").exists()


def test_compare_mixes_a_stored_run_and_a_report(url: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(make_report(run_id=SECOND, slower=1.2, seed=2).to_json())
    assert run_bench("compare", "main", str(tmp_path / "b.json"), "--store", url).code == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "report/99"}', '{"schema": "report/1", "run": 3}'])
def test_compare_refuses_files_that_are_no_report(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    found = run_bench("compare", str(path), str(path))
    assert found.code == 2
    assert f"{path} is no report" in found.error
    assert "\n" not in found.error
    assert "cannot be read" in run_bench("compare", str(tmp_path / "none.json"), str(path)).error


def test_tags_are_added_and_taken_away(url: str) -> None:
    assert run_bench("tag", SECOND, "release/1.2", "x_y-z", "--store", url).output == f"{SECOND}: release/1.2, x_y-z\n"
    assert run_bench("tag", "release/1.2", "x_y-z", "--remove", "--store", url).output == f"{SECOND}: release/1.2\n"
    assert tags_of(url, SECOND) == ("release/1.2",)
    assert run_bench("tag", SECOND, "release/1.2", "--store", url).code == 0  # twice is once
    assert tags_of(url, SECOND) == ("release/1.2",)


@pytest.mark.parametrize("tag", ["latest", "2026", "20260301", "20260301-12", FIRST, "a b", "ü", "", "x;y", "$(x)"])
def test_tags_that_mean_a_run_or_cannot_be_typed_are_refused(url: str, tag: str) -> None:
    assert run_bench("tag", SECOND, "fine", tag, "--store", url).code == 2
    assert tags_of(url, SECOND) == ()


@pytest.mark.parametrize("tag", ["main", "v1", "1.0", "2026-release", "nightly/2026-03-01", "latest-1"])
def test_ordinary_tags_are_taken(url: str, tag: str) -> None:
    assert run_bench("tag", SECOND, tag, "--store", url).code == 0
    assert tags_of(url, SECOND) == (tag,)


def test_removing_a_tag_that_is_not_there_is_an_error(url: str) -> None:
    found = run_bench("tag", FIRST, "nosuch", "--remove", "--store", url)
    assert (found.code, found.error) == (2, f"Run {FIRST} has no tag 'nosuch': it has main.")


def test_rm_needs_yes_off_a_terminal_and_removes_all_or_nothing(url: str) -> None:
    refused = run_bench("rm", FIRST, SECOND, "--store", url)
    assert refused.code == 2
    assert "--yes" in refused.error
    assert run_bench("rm", FIRST, "nosuch", "--yes", "--store", url).code == 2
    with Store.reading(url) as store:
        assert len(store.runs()) == 3
    assert run_bench("rm", "main", FIRST, "latest", "--yes", "--store", url).output == f"Removed {FIRST}, {THIRD}.\n"
    with Store.reading(url) as store:
        assert [run.run_id for run in store.runs()] == [SECOND]


def test_rm_refuses_a_run_that_is_going_on(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    with hold_run(SECOND):
        found = run_bench("rm", FIRST, SECOND, "--yes", "--store", url)
    assert found.code == 2
    assert f"Run {SECOND} is still going on" in found.error
    with Store.reading(url) as store:
        assert len(store.runs()) == 3
    assert run_bench("rm", FIRST, SECOND, "--yes", "--store", url).code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 2)])
def test_rm_asks_on_a_terminal(url: str, answer: str, left: int) -> None:
    ours, theirs = pty.openpty()
    code = f"import sys; sys.argv = ['bench', 'rm', 'main', '--store', {url!r}]; from bench.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdin=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    output, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert f"{FIRST}  quickstart  7 measurements  main" in output
    with Store.reading(url) as store:
        assert len(store.runs()) == left


@pytest.mark.parametrize(
    "arguments",
    [("tag", "main", "x"), ("rm", "main", "--yes"), ("db", "check"), ("db", "upgrade"), ("db", "backup"), ("compare", "a", "b")],
)
def test_no_command_makes_a_store(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    found = run_bench(*arguments, "--store", str(tmp_path / "none.db"))
    assert found.code == 2
    assert "There is no store" in found.error
    assert list(tmp_path.iterdir()) == []


def test_db_check_finds_a_sound_store_sound(url: str) -> None:
    assert run_bench("db", "check", "--store", url).output == "sound\n"


def test_db_check_lists_orphans(url: str) -> None:
    with closing(sqlite3.connect(url)) as connection, connection:
        connection.execute("DELETE FROM runs WHERE run_id = ?", (FIRST,))
    found = run_bench("db", "check", "--store", url)
    assert found.code == 5
    assert "has lost its parent in runs" in found.output
    assert "The store is damaged" in found.output


def test_db_check_lists_damaged_pages(url: str) -> None:
    content = bytearray(Path(url).read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8192] = b"\xff" * 8192
    Path(url).write_bytes(content)
    found = run_bench("db", "check", "--store", url)
    assert found.code == 5
    assert "The store is damaged" in found.output


def test_commands_on_a_damaged_store_end_with_a_sentence(url: str) -> None:
    content = bytearray(Path(url).read_bytes())
    with closing(sqlite3.connect(url)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    content[(page - 1) * size : page * size] = b"\xff" * size
    Path(url).write_bytes(content)
    for arguments in (("show",), ("show", "latest"), ("export", "latest"), ("tag", "main", "x"), ("rm", "main", "--yes")):
        found = run_bench(*arguments, "--store", url)
        assert found.code == 2
        assert "The store cannot be read" in found.error
        assert "\n" not in found.error


def test_db_upgrade_says_what_it_did(url: str, tmp_path: Path) -> None:
    found = run_bench("db", "upgrade", "--store", url)
    assert (found.code, found.output) == (0, "The store is at this version already (revision 0003).\n")
    (tmp_path / "empty.db").touch()
    assert "from revision none to 0003" in run_bench("db", "upgrade", "--store", str(tmp_path / "empty.db")).output
    (tmp_path / "rubbish.db").write_bytes(b"no database " * 1000)
    assert run_bench("db", "upgrade", "--store", str(tmp_path / "rubbish.db")).code == 2


def test_db_backup_is_a_whole_store_and_overwrites_nothing(url: str, tmp_path: Path) -> None:
    beside = Path(run_bench("db", "backup", "--store", url).output.strip())
    assert beside.parent == Path(url).parent
    target = tmp_path / "copy.db"
    assert run_bench("db", "backup", str(target), "--store", url).output == f"{target}\n"
    assert run_bench("db", "backup", str(target), "--store", url).code == 2
    for copy in (beside, target):
        with Store.reading(str(copy)) as store:
            assert len(store.runs()) == 3
    assert run_bench("db", "backup", str(tmp_path / "nosuch" / "x.db"), "--store", url).code == 2


@pytest.mark.slow
def test_db_on_a_server(postgresql_url: str, tmp_path: Path) -> None:
    from postgres import find_programs

    with Store.writing(postgresql_url) as store:
        store.add_report(make_report())
    assert run_bench("db", "check", "--store", postgresql_url).output == "sound\n"
    assert "at this version already" in run_bench("db", "upgrade", "--store", postgresql_url).output
    refused = run_bench("db", "backup", str(tmp_path / "x.db"), "--store", postgresql_url)
    assert refused.code == 2
    assert "pg_dump --format=custom --file=results.dump postgresql://postgres@127.0.0.1:" in refused.error
    password = postgresql_url.split(":")[2].partition("@")[0]
    assert password not in refused.error
    (command,) = re.findall(r"pg_dump .*(?=\.$)", refused.error)
    programs = find_programs()
    dumped = subprocess.run(shlex.split(f"{programs}/{command}"), cwd=tmp_path, env={"PGPASSWORD": password}, capture_output=True)
    assert dumped.returncode == 0, dumped.stderr
    assert (tmp_path / "results.dump").read_bytes().startswith(b"PGDMP")
    with Store.writing(postgresql_url) as store, store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE baselines, marks, calibrations")
        connection.exec_driver_sql("ALTER TABLE runs DROP COLUMN git_branch, DROP COLUMN paired_with")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    assert (
        "run `bench db upgrade`, after copying it with pg_dump" in run_bench("tag", "main", "x", "--store", postgresql_url).error
    )
    upgraded = run_bench("db", "upgrade", "--store", postgresql_url)
    assert upgraded.output == "Upgraded the store from revision 0002 to 0003.\nNo copy was made.\n"
    assert run_bench("tag", "main", "x", "--store", postgresql_url).code == 0
