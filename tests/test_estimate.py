"""Estimates: exact from dimensions that can be counted by hand, and near what real models take."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case, make_planned

from bench.architecture import Architecture
from bench.catalog import catalog
from bench.context import context_of
from bench.dimensions import Layer, Linear, Part
from bench.estimate import CPU_RUNTIME, CUDA_RUNTIME_BYTES, Stored, estimate, tokens_of, unfit
from results.cases import Case, MemoryEstimate, Training

WHOLE, WINDOWED = (
    Layer(Part((Linear(8, 8),)), (Linear(8, 8),), heads=2, query=8, intermediate=16, cached=4, window=window)
    for window in (None, 10)
)
BENCH = (sys.executable, "-P", "-c", "from bench.cli import main; main()")
TINY = Architecture(vocabulary=100, hidden=8, tied=True, layers=(WHOLE, WINDOWED), outside=Part(others=8))
WIDEST = 4 * 16 + 4 * 8 + 2 * 4 + 6 * 8
RANDOM_LIBRARIES, LIBRARIES = CPU_RUNTIME["folder"][0], CPU_RUNTIME["folder"][0] + 100 * CPU_RUNTIME["folder"][1]


def of(case: Case, **more: Any) -> MemoryEstimate:
    return estimate(case, TINY, None, **more)


def asked(**changes: object) -> Case:
    return make_case(prompt_tokens=32, output_tokens=16, **changes)


def test_the_parts_of_an_ordinary_case() -> None:
    found = of(asked())
    assert found.weights_bytes == 4 * (2 * 64 + 8 + 800)
    assert found.kv_cache_bytes == 4 * (48 * 4 + 10 * 4)
    kept_for_windows = 4 * 4 * (32 - 10)
    assert found.activation_bytes == 4 * 32 * WIDEST + 100 * 12 + kept_for_windows
    assert found.runtime_bytes == LIBRARIES
    assert found.total_bytes == sum((found.weights_bytes, found.kv_cache_bytes, found.activation_bytes, found.runtime_bytes))


def test_batches_multiply_and_depth_counts() -> None:
    found = of(asked(batch=3, depth=1000, dtype="bf16", quantization="bf16"))
    assert found.kv_cache_bytes == 3 * 2 * (1048 * 4 + 10 * 4)
    assert found.activation_bytes == 3 * (
        2 * 512 * WIDEST + 100 * 10 + 2 * 4 * (512 - 10)
    )  # the cache is filled 512 tokens at a time


def test_kinds_of_caches() -> None:
    off = of(asked(kv_cache="off"))
    assert off.kv_cache_bytes == 0
    assert off.activation_bytes == 4 * 48 * WIDEST + 100 * 12  # each step computes all tokens again
    static = of(asked(kv_cache="static"))
    assert static.kv_cache_bytes == of(asked()).kv_cache_bytes
    assert static.activation_bytes < of(asked()).activation_bytes
    quantized = of(asked(kv_cache="quantized", kv_dtype="fp8"))
    assert quantized.kv_cache_bytes == 48 * 4 + 4 * 10 * 4  # windows stay in floats
    with pytest.raises(KeyError):
        of(asked(kv_cache="quantized", kv_dtype="q1_z"))


def test_scores_of_eager_attention() -> None:
    more = of(asked(attention="eager")).activation_bytes - of(asked()).activation_bytes
    assert more == 2 * 2 * 32 * 48 * 4


def test_a_draft_adds_its_weights_and_cache_in_the_type_of_computing() -> None:
    case = asked(quantization="int8", dtype="bf16", draft="sha256:" + "b" * 64, draft_tokens=5)
    alone, both = of(case), of(case, draft=TINY)
    assert both.weights_bytes == alone.weights_bytes + 2 * TINY.parameters
    assert both.kv_cache_bytes == 2 * alone.kv_cache_bytes
    assert both.runtime_bytes == alone.runtime_bytes


def test_random_weights_need_no_tokenizer() -> None:
    assert of(asked(weights="random:x")).runtime_bytes == RANDOM_LIBRARIES


def test_some_loaders_leave_floats_behind() -> None:
    level = {"quantization": "dynamic-int8", "source_precision": None}
    assert of(asked(**level)).runtime_bytes == LIBRARIES + 2 * 4 * 64
    assert of(asked(**level, weights="random:x")).runtime_bytes == RANDOM_LIBRARIES
    assert of(asked(**level | {"quantization": "quanto-int8", "dtype": "bf16"})).runtime_bytes == LIBRARIES


def test_gguf_files_have_their_own_size_a_rounded_context_and_windows_with_a_micro_batch() -> None:
    case = asked(engine="llamacpp-server", quantization="q4_k_m", slots=2)
    found = of(case, stored=Stored(700, 300))
    assert found.weights_bytes == 700
    assert found.kv_cache_bytes == 2 * 2 * (4096 * 4 + (10 + 512) * 4)
    assert found.runtime_bytes == 300 + CPU_RUNTIME["gguf"][0] + 100 * CPU_RUNTIME["gguf"][1]
    assert of(case, stored=Stored(700), context_tokens=8192).kv_cache_bytes == 2 * 2 * (8192 * 4 + (10 + 512) * 4)
    in_8_bits = of(case.model_copy(update={"kv_dtype": "q8_0"}), stored=Stored(700))
    assert in_8_bits.kv_cache_bytes == found.kv_cache_bytes * 34 / 64


def test_rooms_are_powers_of_two() -> None:
    assert tokens_of(asked(turns=3)) == 3 * 48
    assert [context_of(asked(depth=depth)) for depth in (0, 3984, 3985, 8080)] == [4096, 4096, 8192, 8192]
    assert context_of(asked(depth=8081)) == 16384
    assert [context_of(make_case(prompt_tokens=None, output_tokens=tokens)) for tokens in (4032, 4033)] == [4096, 8192]
    assert context_of(asked(), longest_request=5000) == 8192


def test_devices_have_a_runtime_of_their_own() -> None:
    found = of(asked(device="cuda", threads=None, tensor_parallel=2))
    assert found.runtime_bytes == 2 * CUDA_RUNTIME_BYTES


def test_training_adds_adapters_states_and_all_logits() -> None:
    training = Training(rank=4, batch=2, sequence_tokens=64, checkpointing=True)
    case = make_case(purpose="finetune", training=training, output_tokens=0, prompt_tokens=None)
    found, every = of(case), of(case.model_copy(update={"training": training.model_copy(update={"checkpointing": False})}))
    assert found.kv_cache_bytes == 0
    wider = case.model_copy(update={"training": training.model_copy(update={"rank": 8})})
    assert of(wider).activation_bytes - found.activation_bytes == 16 * (2 * 4 * 16)
    layer = 2 * 128 * WIDEST * 4
    assert every.activation_bytes - found.activation_bytes == layer - 128 * 8 * 2 * 4


def test_what_does_not_fit_is_said_with_both_sizes() -> None:
    def planned(free: int | None) -> Any:
        memory = MemoryEstimate(
            weights_bytes=108 * 2**30, kv_cache_bytes=0, activation_bytes=0, runtime_bytes=0, available_bytes=free
        )
        return make_planned(estimate=memory)

    assert unfit(planned(20 * 2**30)) == "estimated 108 GiB, 20 GiB are free: leave --skip-unfit out to try it."
    assert unfit(planned(108 * 2**30)) is None
    assert unfit(planned(None)) is None
    assert unfit(make_planned()) is None


def test_27_billion_numbers_in_fp32_do_not_fit_into_24_gib() -> None:
    architecture = Architecture.from_config(catalog()["gemma-3-27b-pt"].architecture or {})
    assert architecture
    found = estimate(asked(weights="random:x"), architecture, 24 * 2**30)
    assert found.fits is False
    assert 102 * 2**30 < found.total_bytes < 104 * 2**30


SUITE = """
name: near
question: How near are the estimates?
defaults: {model: gemma-3-270m, processes: 1, iterations: 1, min_seconds: 0, warmup: 1, output_tokens: 8}
isolation: case
include:
  - {engine: llamacpp, prompt_tokens: 64}
  - {engine: transformers, dtype: fp32, prompt_tokens: 512}
  - {engine: transformers, dtype: bf16, prompt_tokens: 64, batch: 2}
"""


@pytest.mark.slow
@pytest.mark.engine
def test_estimates_are_near_the_peaks_of_a_real_model(tmp_path: Path) -> None:
    (tmp_path / "near.yaml").write_text(SUITE)
    done = subprocess.run(
        [*BENCH, "run", "near.yaml", "--store", f"sqlite:///{tmp_path / 'r.db'}", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["cases"]
    assert len(rows) == 3
    for row in rows:
        metrics = {name: one["value"] for name, one in row["metrics"].items()}
        assert metrics["estimated_bytes"] == pytest.approx(metrics["peak_rss_bytes"], rel=0.15), row["label"]
        assert row["planned"]["estimate"]["weights_bytes"] == pytest.approx(metrics["weights_bytes"], rel=0.001)  # few buffers
