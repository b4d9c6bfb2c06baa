"""A project's defaults: where they are found, what is refused, and what goes before them."""

from pathlib import Path

import pytest
from terminal import run_bench

from bench.project import Found, Project, find_project, with_defaults
from bench.suite import Suite
from results.errors import UsageError

ALL = """
store = "sqlite:///measured.db"
price_per_hour = 2.5
limits = "ttft_s < 0.5"
tags = ["nightly", "a100"]
memory_limit = "8GiB"
"""
PROJECT = Project(
    store="sqlite:///measured.db", price_per_hour=2.5, limits="ttft_s < 0.5", tags=("nightly", "a100"), memory_limit=2**33
)
SUITE = {"name": "mine", "question": "What?", "matrix": {"model": ["gemma-3-270m"]}}


def test_both_files_are_read_and_the_own_one_counts(tmp_path: Path) -> None:
    assert find_project(tmp_path) == Found(Project())
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert find_project(tmp_path) == Found(Project())
    (tmp_path / "pyproject.toml").write_text("[tool.gemmeter]" + ALL)
    assert find_project(tmp_path) == Found(PROJECT, tmp_path / "pyproject.toml")
    (tmp_path / "gemmeter.toml").write_text("price_per_hour = 1\n")
    assert find_project(tmp_path) == Found(Project(price_per_hour=1), tmp_path / "gemmeter.toml", shadowed=True)
    (tmp_path / "pyproject.toml").write_text("no toml")
    assert find_project(tmp_path).shadowed is False


def test_the_file_on_the_page_is_valid_and_has_every_key(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "project.md").read_text()
    (tmp_path / "gemmeter.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    assert find_project(tmp_path).project.model_fields_set == set(Project.model_fields)


def test_no_folder_above_is_searched(tmp_path: Path) -> None:
    (tmp_path / "gemmeter.toml").write_text(ALL)
    (tmp_path / "inner").mkdir()
    assert find_project(tmp_path / "inner") == Found(Project())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price_per_huor = 1", "gemmeter.toml: price_per_huor: unknown key, did you mean 'price_per_hour'?"),
        ("price_per_hour = 0", "gemmeter.toml: price_per_hour: input should be greater than 0, found 0."),
        ("price_per_hour = nan", "gemmeter.toml: price_per_hour: input should be a finite number"),
        ('tags = "one"', "gemmeter.toml: tags: input should be a valid tuple"),
        ('memory_limit = "8 elephants"', "gemmeter.toml: memory_limit: "),
        ('limits = "ttft < 1"', "gemmeter.toml: limits: "),
        ('limits = "ttft_s.p99 < 1"', "ttft_s.p99<1 has a percentile, but each request keeps limits or not: leave it out."),
        ('store = "postgresql://me:secret@host/db"', "store: holds a password, and files are shared: give the URL by the"),
        ('store = "postgresql://host/db?user=me&password=secret"', "BENCH_STORE"),
        ("price_per_hour 1", "gemmeter.toml cannot be read: Expected '=' after a key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "gemmeter.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        find_project(tmp_path)
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_what_is_wrong_in_the_shared_file_is_said_too(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.gemmeter]\nstores = 'x'\n")
    with pytest.raises(UsageError, match=r"pyproject.toml \[tool.gemmeter\]: stores: unknown key, did you mean 'store'"):
        find_project(tmp_path)
    (tmp_path / "pyproject.toml").write_text("tool = 3\n")
    assert find_project(tmp_path) == Found(Project())


def test_a_suite_goes_before_the_project() -> None:
    bare = with_defaults(Suite.model_validate(SUITE), PROJECT)
    assert (bare.defaults.price_per_hour, bare.defaults.memory_limit, bare.limits) == (2.5, 2**33, "ttft_s < 0.5")
    assert Suite.model_validate(bare.source()) == bare
    told = Suite.model_validate(
        SUITE | {"defaults": {"price_per_hour": 1.0, "memory_limit": "1GiB", "output_tokens": 8}, "limits": "tpot_s < 1"}
    )
    assert with_defaults(told, PROJECT) == told
    assert with_defaults(told, Project()) == told
    assert with_defaults(Suite.model_validate(SUITE), Project()) == Suite.model_validate(SUITE)


def test_the_store_of_the_command_line_of_the_environment_and_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No store is there: the refusal names the one that was looked for."""
    monkeypatch.chdir(tmp_path)
    assert "no store at .bench/results.db" in run_bench("show").error
    (tmp_path / "gemmeter.toml").write_text('store = "sqlite:///project.db"')
    assert "no store at project.db" in run_bench("show").error
    monkeypatch.setenv("BENCH_STORE", "sqlite:///environment.db")
    assert "no store at environment.db" in run_bench("show").error
    assert "no store at line.db" in run_bench("show", "--store", "sqlite:///line.db").error


def test_a_wrong_file_is_wrong_usage_and_help_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gemmeter.toml").write_text("pryce = 1")
    done = run_bench("show")
    assert (done.code, done.error.startswith("gemmeter.toml: pryce: unknown key")) == (2, True)
    assert run_bench("show", "--help").code == 0
