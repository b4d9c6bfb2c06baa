"""Levels that are made here: what the library makes is what an independent quantizer makes, and files come whole."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fakes import make_case
from tiny_gemma import make_tiny_gguf

from bench.engines.llamacpp import LlamaCpp
from bench.engines.protocol import Source
from bench.gguf_file import map_gguf
from bench.gguf_header import read_header
from bench.gguf_types import LEVELS, Type
from bench.requantize import Quantizer, floats, requantize
from bench.weights import UnsupportedWeightsError, WeightsError, cached_weights, prepare, resolve
from bench.workloads import Prompt

pytestmark = pytest.mark.slow
pytest.importorskip("xllamacpp")
gguf: Any = pytest.importorskip("gguf")

EXACT = [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
"""The `gguf` package quantizes to these itself."""
K_ERRORS = {Type.Q6_K: 0.02, Type.Q5_K: 0.04, Type.Q4_K: 0.08, Type.Q3_K: 0.17, Type.Q2_K: 0.33}
"""Root of the mean squared error on normal numbers, and a little more."""


def quiet(_step: str, _done: float | None) -> None: ...


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def rows() -> Any:
    return np.random.default_rng(1).normal(size=(16, 512)).astype(np.float32)


@pytest.mark.parametrize("wanted", EXACT)
def test_blocks_are_those_of_an_independent_quantizer(wanted: Type) -> None:
    made = Quantizer().quantize(rows(), wanted)
    assert made == gguf.quantize(rows(), gguf.GGMLQuantizationType(wanted)).tobytes()


@pytest.mark.parametrize(("wanted", "most"), K_ERRORS.items())
def test_blocks_expand_to_about_what_they_were_made_of(wanted: Type, most: float) -> None:
    expanded = floats(Quantizer().quantize(rows(), wanted), wanted, 512)
    assert expanded.shape == (16, 512)
    assert most / 2 < float(np.sqrt(((expanded - rows()) ** 2).mean())) < most


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_written_and_generates(tiny_gguf: Path, tmp_path: Path, level: str) -> None:
    made = tmp_path / f"{level}.gguf"
    requantize(tiny_gguf, made, level, quiet)
    assert read_header(made).stored == level
    before, after = map_gguf(tiny_gguf), map_gguf(made)
    assert [one.name for one in after.tensors] == [one.name for one in before.tensors]
    changed = {key for key in after.pairs if after.pairs[key] != before.pairs.get(key)}
    assert changed <= {"general.file_type", "general.quantization_version"}
    case = make_case(engine="llamacpp", quantization=level, source_precision="q8_0", threads=1)
    assert LlamaCpp().refuse(case) is None
    session = LlamaCpp().load(Source(made, context_tokens=256), case)
    assert session.generate(Prompt(0, "x", (2, 300)), 4, "length", time.perf_counter).output_tokens == 4
    session.close()


def test_the_same_level_again_is_the_same_file(tiny_gguf: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    requantize(tiny_gguf, first, "q8_0", quiet)
    requantize(first, second, "q8_0", quiet)
    assert first.read_bytes() == second.read_bytes()


def test_floats_and_back_are_the_same_numbers(tiny_gguf: Path, tmp_path: Path) -> None:
    requantize(tiny_gguf, tmp_path / "fp32.gguf", "fp32", quiet)
    requantize(tmp_path / "fp32.gguf", tmp_path / "q8_0.gguf", "q8_0", quiet)
    tensors = {path: gguf.GGUFReader(path).tensors for path in (tiny_gguf, tmp_path / "q8_0.gguf")}
    for one, other in zip(*tensors.values(), strict=True):
        expanded, again = (gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in (one, other))
        np.testing.assert_allclose(expanded, again, rtol=0.01, atol=0.01)


def test_a_level_is_made_once_and_listed(tiny_gguf: Path, tmp_path: Path) -> None:
    model, steps = resolve(str(tiny_gguf), "model", cache=tmp_path), []
    made = prepare(model, lambda step, done: steps.append((step, done)), "gguf", "q4_0", cache=tmp_path)
    assert made is not None
    assert made == tmp_path / "requantized" / f"{model.weights.removeprefix('sha256:')}-q4_0" / "tiny-q4_0.gguf"
    assert steps[-1] == ("quantizing the weights to q4_0", 1.0)
    assert (made.name, made, made.stat().st_size) in cached_weights(tmp_path)
    steps.clear()
    assert prepare(model, lambda step, done: steps.append((step, done)), "gguf", "q4_0", cache=tmp_path) == made
    assert prepare(model, quiet, "gguf", "q8_0", cache=tmp_path) == tiny_gguf
    assert steps == []


def test_what_cannot_be_made_has_a_reason(tiny_gguf: Path, tmp_path: Path) -> None:
    model = resolve(str(tiny_gguf), "model", cache=tmp_path)
    with pytest.raises(UnsupportedWeightsError, match=r"tiny\.gguf: .*iq2_xs needs an importance matrix"):
        prepare(model, quiet, "gguf", "iq2_xs", cache=tmp_path)
    with pytest.raises(UnsupportedWeightsError, match="nf4 is made while transformers loads a model"):
        prepare(model, quiet, "gguf", "nf4", cache=tmp_path)


def test_a_damaged_file_leaves_nothing(tiny_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:-4096])
    model = resolve(str(cut), "model", cache=tmp_path)
    with pytest.raises(WeightsError, match=r"cut\.gguf is cut off: download it again"):
        prepare(model, quiet, "gguf", "q4_0", cache=tmp_path)
    assert [path.name for path in (tmp_path / "requantized").iterdir() if path.is_dir()] == []


def test_the_child_ends_with_its_parent(tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "requantized" / "0-q4_0"
    target.parent.mkdir()
    lock = target.parent / f"{target.name}.lock"
    from filelock import FileLock

    with FileLock(lock):  # so that it waits
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.requantize", str(tiny_gguf), str(target), "q4_0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ,
        )  # fmt: skip
        assert child.stdout and child.stdin
        assert re.search(b"waiting for another run", child.stdout.readline())
        child.stdin.close()
        psutil.Process(child.pid).wait(20)
        child.stdout.close()
    child.wait(1)
    assert not target.exists()
