"""The GitHub Action and the GitLab example: their forms, and their shell scripts run for real against prepared stores."""

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from fakes import START, make_environment, make_report, store_report

from results.decided import Baseline
from results.store import Store

ROOT = Path(__file__).parent.parent
ACTION = ROOT / ".github/actions/gate/action.yml"
GITLAB = ROOT / "docs/ci/gitlab-ci.yml"
STEPS = {step["name"]: step for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"]}
BASE, CANDIDATE = "20260301-120000-aaaa", "20260302-120000-bbbb"

SHIM = """#!/bin/bash
# Stands for a bench that measures: `bench run … --tag NAME` gives a prepared run that tag, all else is the real one.
if [ "$1" = run ]; then
  printf '%s\\n' "$@" > "$MEASURED"
  if [ -n "$CANDIDATE" ]; then {python} -P -c "$ENTRY" tag "$CANDIDATE" "${{@: -1}}" > /dev/null; fi
  exit "$RUN_CODE"
fi
exec {python} -P -c "$ENTRY" "$@"
"""


@dataclass(frozen=True)
class Job:
    """A folder with a store, and the variables that a runner sets."""

    folder: Path
    variables: dict[str, str]

    def shell(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """As GitHub and GitLab run it: the first command that fails ends the script."""
        return subprocess.run(
            ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script),
            cwd=self.folder, env={**self.variables, **variables}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def step(self, name: str, **inputs: str) -> subprocess.CompletedProcess[str]:
        """A step of the action; what its environment takes from inputs is given, the rest is what a runner would put there."""
        step = STEPS[name]
        given = {
            key: inputs.get(key, "" if "inputs." in value else self.variables.get(key, "")) for key, value in step["env"].items()
        }
        return self.shell(step["run"], **given | ({"BENCH_STORE": "results.db"} if "BENCH_STORE" in given else {}))

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.folder / "output").read_text().splitlines())


def make_job(folder: Path, *, slower: float = 1.0, machine: str = "Test CPU", baseline: bool = True) -> Job:
    candidate = make_report(run_id=CANDIDATE, slower=slower, seed=2, started_at=START + timedelta(days=1))
    run = candidate.run.model_copy(update={"environment": make_environment(cpu_model=machine)})
    with Store.writing(str(folder / "results.db")) as store:
        store_report(store, make_report().model_copy(update={"tags": ()}))
        store_report(store, candidate.model_copy(update={"run": run, "tags": ()}))
        if baseline:
            store.add_baseline(Baseline(name="main", reference=None, run_ids=(BASE,), author="me", reason="first", at=START))
    programs = folder / "programs"
    programs.mkdir()
    shim = programs / "bench"
    shim.write_text(SHIM.format(python=sys.executable))
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    (programs / "python").symlink_to(sys.executable)
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "ENTRY": "from bench.cli import main; main()",
        "PYTHONPATH": str(ROOT), "MEASURED": str(folder / "measured"), "CANDIDATE": CANDIDATE, "RUN_CODE": "0", "RUN": "gate-1-1",
        "REPORTS": str(folder / "reports"), "GITHUB_OUTPUT": str(folder / "output"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "BENCH_STORE": "results.db", "WHO": "octocat",
    }  # fmt: skip
    return Job(folder, variables)


# ---- forms


def test_the_action_has_the_form_of_a_composite_action() -> None:
    action = yaml.safe_load(ACTION.read_text())
    assert {"name", "description", "inputs", "outputs", "runs"} == action.keys()
    assert action["runs"]["using"] == "composite"
    for name, one in action["inputs"].items():
        assert one["description"], name
        assert one.get("required") is True or isinstance(one["default"], str), name
    for one in action["outputs"].values():
        assert one["description"]
        assert re.fullmatch(r"\$\{\{ steps\.gate\.outputs\.[\w-]+ \}\}", one["value"])
    assert [one for one in action["runs"]["steps"] if one.get("id")] == [STEPS["Judge"]]
    for step in STEPS.values():
        assert ("run" in step) != ("uses" in step)
        assert "uses" in step or step["shell"] == "bash"
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@v\d+", step.get("uses", "a/b@v1"))


def test_every_input_is_used_and_none_is_pasted_into_a_script() -> None:
    text = ACTION.read_text()
    for name in yaml.safe_load(text)["inputs"]:
        assert f"inputs.{name}" in text.split("\nruns:\n")[1], name
    assert not [name for name, step in STEPS.items() if "${{" in step.get("run", "")]


def test_scripts_are_valid_shell() -> None:
    scripts = [step["run"] for step in STEPS.values() if "run" in step] + gitlab()["script"]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def gitlab() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(GITLAB.read_text())["performance"]
    return found


def test_the_gitlab_job_has_the_form_that_gitlab_reads() -> None:
    job = gitlab()
    assert all(isinstance(line, str) for line in (*job["before_script"], *job["script"]))
    assert job["artifacts"]["reports"] == {"junit": "gate.xml"}
    assert job["artifacts"]["when"] == "always"
    assert job["allow_failure"] == {"exit_codes": [3]}
    written = re.findall(r"--output (\S+)", "\n".join(job["script"]))
    assert set(written) == {*job["artifacts"]["paths"], "gate.xml"}


# ---- scripts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slower", "machine", "verdict", "code"),
    [
        (1.0, "Test CPU", "no_change", 0),
        (1.2, "Test CPU", "regression", 1),
        (1.0, "Other CPU", "not_comparable", 4),
    ],
)
def test_the_action_measures_judges_reports_and_decides(
    slower: float, machine: str, verdict: str, code: int, tmp_path: Path
) -> None:
    job = make_job(tmp_path, slower=slower, machine=machine)
    assert job.step("Measure", SUITE="quickstart", SETTINGS="dtype=bf16\nprocesses=3\n").returncode == 0
    assert (tmp_path / "measured").read_text().split() == [
        "run", "quickstart", "--set", "dtype=bf16", "--set", "processes=3", "--tag", "gate-1-1",
    ]  # fmt: skip
    judged = job.step("Judge")
    assert judged.returncode == 0, judged.stderr
    assert job.outputs() == {"verdict": verdict, "exit-code": str(code), "reports": str(tmp_path / "reports")}
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["gate.html", "gate.json", "gate.md", "gate.xml"]
    assert json.loads((tmp_path / "reports/gate.json").read_text())["exit_code"] == code
    words = verdict.replace("_", " ").capitalize()
    assert (tmp_path / "summary.md").read_text().startswith(f"# {words}: quickstart\n")
    assert f"title=Gate%3A {words.lower()}::" in judged.stdout
    assert ElementTree.parse(tmp_path / "reports/gate.xml").getroot().get("failures") == ("7" if code == 1 else "0")
    assert job.step("Decide", CODE=str(code)).returncode == code


@pytest.mark.slow
def test_without_a_baseline_the_action_fails_until_one_is_accepted(tmp_path: Path) -> None:
    job = make_job(tmp_path, baseline=False)
    assert job.step("Measure", SUITE="quickstart").returncode == 0
    assert job.step("Judge").returncode == 0
    assert job.outputs()["verdict"] == "not_comparable"
    assert "bench baseline set main" in (tmp_path / "summary.md").read_text()
    accepted = job.step("Accept", REASON="the first; $(touch pasted)", WHO="octocat")
    assert accepted.returncode == 0, accepted.stderr
    assert not (tmp_path / "pasted").exists()
    with Store.reading(str(tmp_path / "results.db")) as store:
        (move,) = store.baselines("main")
    assert (move.run_ids, move.author, move.reason) == ((CANDIDATE,), "octocat", "the first; $(touch pasted)")


@pytest.mark.slow
def test_a_failed_case_goes_on_to_the_gate_and_wrong_usage_does_not(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    for code, ends in ((5, 0), (2, 2), (130, 130)):
        assert job.shell(STEPS["Measure"]["run"], SUITE="quickstart", SETTINGS="", RUN_CODE=str(code)).returncode == ends


@pytest.mark.slow
def test_a_run_that_never_came_to_be_is_an_error_and_no_pass(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    assert job.shell(STEPS["Measure"]["run"], SUITE="quickstart", SETTINGS="", RUN_CODE="5", CANDIDATE="").returncode == 0
    assert job.step("Judge").returncode == 0
    assert (job.outputs()["verdict"], job.outputs()["exit-code"]) == ("error", "2")


@pytest.mark.slow
def test_a_report_of_another_machines_store_and_a_policy_are_taken(tmp_path: Path) -> None:
    job = make_job(tmp_path, slower=1.2, baseline=False)
    assert job.shell(f"bench export {BASE} --output main.json").returncode == 0
    (tmp_path / "loose.yaml").write_text("name: loose\nrules: [{metrics: [ttft_s, tpot_s, e2e_s], margin: 50%}]\n")
    assert job.step("Measure", SUITE="quickstart").returncode == 0
    assert job.step("Judge", AGAINST="main.json").returncode == 0
    assert job.outputs()["verdict"] == "regression"
    (tmp_path / "output").unlink()
    judged = job.step("Judge", AGAINST="main.json", POLICY="loose.yaml")
    assert judged.returncode == 0, judged.stderr
    assert "--policy loose.yaml" in (tmp_path / "reports/gate.md").read_text()
    assert job.outputs() == {"verdict": "no_change", "exit-code": "0", "reports": str(tmp_path / "reports")}


@pytest.mark.slow
def test_what_is_installed(tmp_path: Path) -> None:
    job = make_job(tmp_path, baseline=False)
    (tmp_path / "programs/python").unlink()
    fake = tmp_path / "programs/python"
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$@" > asked\n')
    fake.chmod(0o755)
    script = STEPS["Install Gemmeter"]["run"]
    assert job.shell(script, INSTALL="gemmeter[llamacpp]==0.1.0 httpx", ACTION=str(ACTION.parent)).returncode == 0
    assert (tmp_path / "asked").read_text().split() == ["-m", "pip", "install", "--quiet", "gemmeter[llamacpp]==0.1.0", "httpx"]
    assert job.shell(script, INSTALL="", ACTION=str(ACTION.parent)).returncode == 0
    *_, constraints, project = (tmp_path / "asked").read_text().split()
    assert Path(constraints).resolve() == ROOT / "constraints.txt"
    assert (Path(project.removesuffix("[quickstart]")) / "pyproject.toml").resolve() == ROOT / "pyproject.toml"


@pytest.mark.slow
@pytest.mark.parametrize(("slower", "accept", "code"), [(1.0, "", 0), (1.2, "", 1), (1.2, "a new kernel", 0)])
def test_the_gitlab_script_decides(slower: float, accept: str, code: int, tmp_path: Path) -> None:
    job = make_job(tmp_path, slower=slower)
    variables = {name: value.replace("$CI_JOB_ID", "7") for name, value in gitlab()["variables"].items()}
    done = job.shell("\n".join(gitlab()["script"]), **variables, ACCEPT=accept, GITLAB_USER_LOGIN="octocat")
    assert done.returncode == code, done.stderr
    assert {"gate.md", "gate.html", "gate.json", "gate.xml"} <= {path.name for path in tmp_path.iterdir()}
    with Store.reading(str(tmp_path / "results.db")) as store:
        assert store.baselines("main")[-1].run_ids == ((CANDIDATE,) if accept else (BASE,))
