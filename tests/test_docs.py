"""Every documented command is run, in its order, against a store with real shapes; those that measure, resume or serve run elsewhere."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fakes import make_report, store_report
from terminal import run_bench

from bench.cli import bench as group
from bench.suite import Suite, load_suite
from results.records import Report
from results.store import Store

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    "bench dashboard": "test_browser.py starts it",
    "bench run --resume": "test_run.py resumes",
    "bench gate --until-decided": "test_demonstration.py measures with it",
    "bench run --extend": "test_run.py extends",
}
"""How commands begin that are run by other tests, and where."""
EXPLAINED = "q3f2a9c04d51e7b6"
"""The request that the page on `bench explain` asks for."""


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(page: Path) -> list[str]:
    """Lines of shell blocks that call `bench`, without prompts, comments and what is redirected."""
    found = []
    for line in "".join(blocks(page, "sh", "console", "bash")).splitlines():
        command = line.removeprefix("$ ").split(" #")[0].split(" > ")[0].strip().removeprefix(".venv/bin/")
        if command.startswith("bench "):
            found.append(command)
    return found


def with_request(report: Report, request_id: str) -> Report:
    """The report with this id for its first request."""
    first, *others = report.measurements
    known = first.requests[0].model_copy(update={"request_id": request_id})
    first = first.model_copy(update={"requests": (known, *first.requests[1:])})
    return report.model_copy(update={"measurements": (first, *others)})


def test_pages_have_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 20


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_documented_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_STORE", raising=False)
    with Store.writing("sqlite:///.bench/results.db") as store:
        store_report(store, with_request(make_report(with_failure=False), EXPLAINED))
        store_report(store, make_report(run_id="20260302-120000-bbbb", with_failure=False).model_copy(update={"tags": ()}))
    shutil.copytree(ROOT / "tests" / "fixtures" / "imports", tmp_path, dirs_exist_ok=True)
    for text in blocks(page, "yaml"):
        name = yaml.safe_load(text).get("name")
        (tmp_path / (f"{name}.yaml" if name else "my-rules.yaml")).write_text(text)
    for command in commands(page):
        if command.startswith(tuple(ELSEWHERE)):
            continue
        arguments = shlex.split(command)[1:]
        if arguments[0] == "run" and "--dry-run" not in arguments:
            arguments = [one for one in arguments if one != "--json"] + ["--dry-run"]
        done = run_bench(*arguments)
        assert not done.error, f"{command}: {done.error}"
        without_data = command.startswith("bench alerts eval")  # the fake run holds a case that was never reached
        assert done.code in ((0, 1, 3) if without_data else (0, 1)), command
        assert done.output or "--output" in command, command


def test_every_command_is_documented() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for name, command in group.commands.items():
        for inner in getattr(command, "commands", {"": None}):
            assert f"bench {name} {inner}".strip() in text, f"bench {name} {inner}"


SUITES = {found["name"]: text for page in PAGES for text in blocks(page, "yaml") if "name" in (found := yaml.safe_load(text))}
"""The suites in the pages, by name."""


def test_the_pages_hold_suites_of_all_kinds() -> None:
    assert {"mine", "served", "kinds-of-load", "our-limits"} <= SUITES.keys()


@pytest.mark.parametrize("name", SUITES)
def test_the_suites_in_the_pages_are_valid(name: str, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITES[name])
    assert isinstance(load_suite(tmp_path / "suite.yaml"), Suite)


def test_pages_link_to_what_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_completion_scripts_are_valid_shell(tmp_path: Path) -> None:
    script = run_bench("completion", "bash").output
    assert "_BENCH_COMPLETE" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_makefile_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
