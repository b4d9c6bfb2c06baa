"""The arrows between the folders, and what starting must not import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "results": {"results"},
    "monitor": {"monitor", "results"},
    "bench": {"bench", "monitor", "results"},
    "dashboard": {"dashboard", "results"},
}
HEAVY = {"torch", "transformers", "pandas", "scipy", "sqlalchemy", "pydantic", "streamlit", "plotly", "rich", "pynvml", "psutil"}


def imports_of(path: Path) -> set[str]:
    """The first name of every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_no_other_arrow_between_folders(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = {
        str(file.relative_to(ROOT)): names
        for file in files
        if (names := (imports_of(file) & (ALLOWED.keys() | {"suites", "tests", "benchmarks"})) - ALLOWED[folder])
    }
    assert wrong == {}


def test_records_import_nothing_of_ours() -> None:
    assert not imports_of(ROOT / "results/record.py") & ALLOWED.keys()
    assert not imports_of(ROOT / "results/errors.py") & ALLOWED.keys()


def test_suites_hold_data_only() -> None:
    assert list((ROOT / "suites").rglob("*.py")) == []


def loaded_by(code: str) -> set[str]:
    """Heavy modules that are loaded when a fresh interpreter ends after this code."""
    program = f"""
import atexit, sys
atexit.register(lambda: print(*(name for name in {sorted(HEAVY)} if name in sys.modules), file=sys.stderr))
sys.argv = ["bench", "--help"]
{code}
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    assert loaded_by("from bench.cli import main; main()") == set()


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = "from bench.cli import bench\nfor name in bench.commands: bench.main([name, '--help'], standalone_mode=False)"
    assert loaded_by(code) == set()


def test_judging_and_launching_need_no_torch() -> None:
    modules = (
        "results.compare, results.gate, results.export, results.alerts, bench.tables, bench.suite, bench.launch, bench.weights"
    )
    assert not loaded_by(f"import {modules}") & {"torch", "transformers", "streamlit"}
