"""The scripts behind the claims run, and print their ratios."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tiny_gemma import make_tiny_gguf

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def printed_by(*command: object) -> str:
    done = subprocess.run([sys.executable, "-P", *map(str, command)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_hook_is_far_below_a_hundredth_of_a_step_of_any_real_model(tiny_gemma: Path) -> None:
    """The tiny model's steps are some hundred times shorter than a real one's, so its share is the worst there is."""
    text = printed_by(BENCHMARKS / "hook.py", tiny_gemma, "--pairs", 3, "--tokens", 8)
    assert re.search(r"median \d\.\d{4}", text)
    share = re.search(r": ([\d.]+)%$", text.strip())
    assert share
    assert float(share[1]) < 1


@pytest.mark.slow
def test_starting_imports_nothing_heavy() -> None:
    text = printed_by(BENCHMARKS / "startup.py", "--pairs", 1)
    assert "heavy modules imported: none" in text
    assert re.search(r"ratio [\d.]+", text)


def script(name: str) -> ModuleType:
    """A benchmark as a module, for what it does without printing."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_verdicts_are_simulated() -> None:
    text = printed_by(BENCHMARKS / "verdicts.py", "--rounds", 48)
    assert len(text.splitlines()) == 2 + 4 * 4 + 1 + 4
    assert re.search(r"10\s+\+20%\s+100\.0%", text)
    assert len(printed_by(BENCHMARKS / "verdicts.py", "--rounds", 16, "--blocks").splitlines()) == 2 + 4 * 4 * 4


@pytest.mark.slow
def test_the_default_looks_hold_what_the_gate_promises() -> None:
    simulation = script("verdicts")
    rounds, looks = 1500, simulation.LOOKS
    unchanged, slower = (simulation.simulate(factor, looks, rounds, seed=7) for factor in (1.0, 1.05))
    assert unchanged.counted["regression"] <= 0.025 * rounds
    assert unchanged.counted["inconclusive"] <= 0.02 * rounds
    assert slower.counted["regression"] >= 0.95 * rounds
    assert max(unchanged.processes, slower.processes) <= 7
    many = simulation.simulate(1.0, looks, rounds // 10, seed=7, rows=12)
    assert many.wrong <= 0.05 * rounds // 10


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("look", [None, 2])
def test_the_simulation_judges_as_the_gate_does(blocks: bool, look: int | None) -> None:
    import numpy as np
    from test_gate import make_comparison, make_row

    from results.gate import DEFAULT, gate
    from results.stats import alpha_per_look

    simulation, rows, count = script("verdicts"), 4, 5
    a, b = simulation.sides(np.random.default_rng(3), 40 * rows, count, shared=0.5 if blocks else 0.0)
    b[::rows] += np.log(1.06)
    alpha = alpha_per_look(DEFAULT.looks, 0.05) if look else 0.05
    simulated = simulation.verdicts(a, b, np.full(len(a), count), alpha, rows, blocks=blocks)
    told = []
    for start in range(0, len(a), rows):
        compared = [make_row(np.exp(a[k]).tolist(), np.exp(b[k]).tolist(), paired=blocks) for k in range(start, start + rows)]
        by_row = {id(one.row): one.verdict for one in gate(make_comparison(*compared), look=look).rows}
        told += [by_row[id(row)] for row in compared]
    assert simulated == told
    assert {"regression", "no_change", "inconclusive"} <= set(told)


@pytest.mark.slow
def test_the_client_is_fast_and_its_times_are_told() -> None:
    text = printed_by(BENCHMARKS / "client.py", "--requests", 50, "--rounds", 1, "--streams", 2, "--each", 8)
    assert re.search(r"requests/s", text)
    assert re.search(r"TTFT", text)


@pytest.mark.slow
def test_what_the_client_takes_from_a_server_is_a_ratio(tmp_path: Path) -> None:
    gguf = make_tiny_gguf(tmp_path / "tiny.gguf")
    text = printed_by(BENCHMARKS / "intrusion.py", gguf, "--pairs", 2, "--tokens", 16)
    assert re.search(r"median[^\n]*\d\.\d", text)


@pytest.mark.slow
def test_http_libraries_are_compared() -> None:
    text = printed_by(BENCHMARKS / "http_libraries.py", "--requests", 50, "--rounds", 1)
    assert "aiohttp" in text
    assert "httpx" in text


@pytest.mark.slow
def test_saturation_is_simulated() -> None:
    text = printed_by(BENCHMARKS / "saturation.py", "--runs", 4, "--proofs", 2)
    assert "bunched" in text


@pytest.mark.slow
def test_levels_of_quantization_are_compared(tiny_gemma: Path) -> None:
    pytest.importorskip("torchao")
    text = printed_by(
        BENCHMARKS / "quantization.py", tiny_gemma, "--levels", "torchao-int8", "--tokens", 8, "--rounds", 1, "--threads", 1
    )
    assert re.search(r"^fp32 +[\d.]+ +1\.00 ", text, re.MULTILINE)
    row = re.search(r"^torchao-int8 +[\d.]+ +[\d.]+ +([\d.]+) MiB +([\d.]+) MiB", text, re.MULTILINE)
    assert row
    assert float(row[1]) < float(row[2])


@pytest.mark.slow
def test_a_sweep_costs_little_more_than_what_it_measures(tiny_gemma: Path) -> None:
    text = printed_by(BENCHMARKS / "sweep.py", tiny_gemma, "--dtype", "fp32", "--seconds", 0.2)
    assert "12 cases in one load" in text
    assert re.search(r"ratio \d\.\d{3}$", text.strip())


def test_every_script_says_what_it_measures() -> None:
    scripts = sorted(BENCHMARKS.glob("*.py"))
    assert scripts
    assert all(script.read_text().startswith('"""') and f"benchmarks/{script.name}" in script.read_text() for script in scripts)
