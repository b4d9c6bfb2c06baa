"""Engines of other packages: the worked example is really installed, and what is wrong with a package is said."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
EXAMPLE = Path(__file__).parent / "example_engine"
PAGE = ROOT / "docs/engines.md"


def child(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A fresh Python that also sees the packages in this folder."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment, timeout=60)


def add_package(folder: Path, name: str, points: dict[str, str]) -> None:
    """The metadata of an installed distribution with these entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{engine} = {target}" for engine, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[gemmeter.engines]", *lines]) + "\n")


@pytest.mark.slow
def test_the_example_installs_and_measures(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "--no-cache-dir"]
    done = subprocess.run(
        [*pip, "--target", tmp_path / "packages", tmp_path / "source"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    code = """
import json, time
from bench.engines import engine_names, make_engine, support
from bench.engines.protocol import Source
from bench.workloads import load_prompts, speed_prompt
from results.cases import Case

case = Case(weights="sha256:0", engine="echo", device="cpu", dtype="fp32", quantization="fp32", threads=1, workload="w", output_tokens=8)
engine = make_engine("echo")
session = engine.load(Source(), case)
prompt = speed_prompt(load_prompts("five-questions"), 0, "1.7", 32, "plain", session.encode, session.decode)
long = session.generate(prompt, 40, "length", time.perf_counter)
short = session.generate(prompt, 40, "eos", time.perf_counter)
print(json.dumps({
    "names": engine_names(), "devices": support("echo").devices, "refused": engine.refuse(case.model_copy(update={"threads": 4})),
    "prompt": long.prompt_tokens, "long": [long.output_tokens, long.finish_reason, long.text], "text": prompt.text,
    "short": [short.output_tokens, short.finish_reason, short.text], "recount": session.recount(long.text),
    "gap": min(b - a for a, b in zip(long.event_times, long.event_times[1:])), "events": list(long.event_tokens),
}))
"""
    done = child(code, tmp_path / "packages")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "echo" in found["names"] and found["devices"] == ["cpu"]
    assert "set threads to 1" in found["refused"]
    assert found["prompt"] == 32
    assert found["long"] == [40, "length", (found["text"] * 2)[:40]] and found["recount"] == 40
    assert found["short"] == [32, "stop", found["text"]]
    assert found["gap"] >= 0.002 and found["events"] == [1] * 40


def test_a_package_cannot_take_a_name_of_ours_and_a_broken_one_is_named(tmp_path: Path) -> None:
    add_package(tmp_path, "thief", {"transformers": "os:getcwd", "mine": "nowhere_to_be_found:Engine", "half": "os:NoSuchThing"})
    code = """
from bench.engines import engine_class, engine_names
from results.errors import UsageError
print(engine_class("transformers").__module__, engine_names().count("transformers"))
for name in ("mine", "half", "minne"):
    try:
        engine_class(name)
    except UsageError as error:
        print(error)
"""
    done = child(code, tmp_path)
    assert done.returncode == 0, done.stderr
    ours, mine, half, unknown = done.stdout.splitlines()
    assert ours == "bench.engines.transformers 1"
    assert "'mine' of nowhere_to_be_found:Engine cannot be imported" in mine
    assert "'half' of os:NoSuchThing cannot be imported" in half
    assert "There is no engine 'minne', did you mean 'mine'?" in unknown


ODD = """
from bench.engines.protocol import Support
class Supportless: pass
def function(): pass
class Factless:
    support = Support(weights="folder", packages=(), extra=None, devices=("cpu",), quantizations=("fp32",))
    @staticmethod
    def facts(source):
        raise ZeroDivisionError("no version")
"""


def test_broken_packages_hide_no_engine_and_end_no_run(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "no_python.py").write_text("def (")
    wrong = {"supportless": "odd:Supportless", "function": "odd:function", "syntax": "no_python:Engine", "absent": "nowhere:E"}
    add_package(tmp_path, "odd", wrong | {"factless": "odd:Factless"})
    listed = child("from bench.cli import main; import sys; sys.argv = ['bench', 'engines', '--json']; main()", tmp_path)
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert {"transformers", "llamacpp", "openai", "ollama", "factless", *wrong} <= rows.keys()
    assert {name for name, row in rows.items() if "error" in row} == wrong.keys()
    assert "is no class with a `support`" in rows["supportless"]["error"] and "no class" in rows["function"]["error"]
    shown = child("from bench.cli import main; import sys; sys.argv = ['bench', 'engines']; main()", tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in rows) and "cannot be" in shown.stdout
    code = """
from bench.engines.protocol import Source
from bench.environment import environment
print(environment(["factless"], [("factless", Source())]).facts["factless facts"])
"""
    told = child(code, tmp_path)
    assert (told.returncode, told.stdout) == (0, "failed with ZeroDivisionError\n"), told.stderr


def test_the_page_shows_the_example_as_it_is() -> None:
    blocks = dict(re.findall(r"^```(python|toml)\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL))
    assert blocks["python"] == (EXAMPLE / "gemmeter_echo.py").read_text()
    assert blocks["toml"] == (EXAMPLE / "pyproject.toml").read_text()


def test_the_page_names_everything_that_support_says() -> None:
    from dataclasses import fields

    from bench.engines.protocol import Generation, Support

    text = PAGE.read_text()
    assert [one.name for kind in (Support, Generation) for one in fields(kind) if f"`{one.name}`" not in text] == []
