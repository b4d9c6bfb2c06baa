"""The whole way on a tiny real Gemma: a slowdown of 20 % in decoding is caught, and a repeat of the same build is not.

Its steps take a millisecond, of which other programs on a machine of two cores make two or three for seconds at a time. So both sides
wait in each decode step as long as they would for a device, and the slower one a fifth of its own step more.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SUITE = """
name: demonstration
question: Is a slowdown found?
defaults: {{iterations: 8, warmup: 1, min_seconds: 0, threads: 1, output_tokens: 24, prompt_tokens: 16, engine: transformers}}
matrix: {{model: [{model}]}}
"""
POLICY = """
rules:
  - gate: false
  - metrics: [tpot_s]
    gate: true
    margin: 10%
"""
BUILD = '''
"""A build of Gemma 3 whose decode steps take a device's time, and as much longer as SLOWER says."""

import functools, os, sys, time
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

MODULE = "transformers.models.gemma3.modeling_gemma3"
DEVICE_S, SLOWER = 0.02, float(os.environ.get("SLOWER", 0))

class Builder(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            build(module.Gemma3ForCausalLM)

        spec.loader.exec_module = exec_module
        return spec

def build(model):
    forward, last = model.forward, {"began": None}

    @functools.wraps(forward)
    def stepping(self, *args, **kwargs):
        decodes = kwargs["input_ids"].shape[-1] == 1
        if decodes and last["began"] is not None:
            time.sleep(SLOWER * (time.perf_counter() - last["began"]))
        began = time.perf_counter()
        last["began"] = began if decodes else None
        found = forward(self, *args, **kwargs)
        if decodes:
            time.sleep(max(0.0, began + DEVICE_S - time.perf_counter()))
        return found

    model.forward = stepping

sys.meta_path.insert(0, Builder())
'''


@pytest.fixture
def folder(tmp_path: Path, tiny_gemma: Path) -> Path:
    (tmp_path / "suite.yaml").write_text(SUITE.format(model=tiny_gemma))
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/sitecustomize.py").write_text(BUILD)
    return tmp_path


def gate(folder: Path, b: str = "") -> tuple[int, dict[str, Any], str]:
    """The exit code, the row of the time per output token, and its values."""
    place = f"env.PYTHONPATH={folder / 'build'}"
    words = ("gate", "--until-decided", "--suite", "suite.yaml", "--policy", "policy.yaml", "--most", "8", "--json", "--a", place)
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from bench.cli import main; main()", *words, "--b", f"{place} {b}"],
        cwd=folder, env=os.environ | {"BENCH_CACHE": str(folder / "cache")}, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.stdout, done.stderr
    judged = json.loads(done.stdout)
    [row] = [row for row in judged["rows"] if row["gates"]]
    assert row["metric"] == "tpot_s"
    assert judged["verdict"] == row["verdict"], judged["reasons"]
    return done.returncode, row, f"{row['ratio']} of {row['a_values']} and {row['b_values']}"


def test_a_slowdown_of_a_fifth_is_caught(folder: Path) -> None:
    code, row, values = gate(folder, "env.SLOWER=0.2")
    assert (code, row["verdict"]) == (1, "regression"), values
    assert row["paired"]
    assert row["ratio"] > 1.05, values


def test_a_repeat_of_the_same_build_is_not(folder: Path) -> None:
    code, row, values = gate(folder)
    assert (code, row["verdict"]) in ((0, "no_change"), (3, "inconclusive")), values
