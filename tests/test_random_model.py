import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.engines.protocol import UnsupportedError
from bench.engines.random_model import BLOCK, StandInTokenizer, build
from bench.preparing import MissingDependencyError
from results.cases import Case
from results.store import Store

TEXT: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256,
}  # fmt: skip
SLIDING = TEXT | {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}
LAYERED = SLIDING | {"vocab_size_per_layer_input": 320, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2}
EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gemma": {"model_type": "gemma", **TEXT},
    "gemma2": {"model_type": "gemma2", **SLIDING},
    "gemma3_text": {"model_type": "gemma3_text", **SLIDING},
    "gemma3": {"model_type": "gemma3", "text_config": SLIDING, "vision_config": VISION, "mm_tokens_per_image": 4},
    "gemma3n_text": {
        "model_type": "gemma3n_text", **LAYERED, "laurel_rank": 8, "intermediate_size": [64] * 4,
        "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0],
    },
    "gemma4": {"model_type": "gemma4", "text_config": LAYERED | {"global_head_dim": 16}},
    "gemma4_text with experts": {
        "model_type": "gemma4_text", **LAYERED, **EXPERTS, "global_head_dim": 16, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
    },
    "llama": {"model_type": "llama", **TEXT},
    "gpt2": {"model_type": "gpt2", "vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 2, "eos_token_id": 1, "bos_token_id": 2},
}  # fmt: skip
WIDE = {"model_type": "gemma3_text", **SLIDING, "hidden_size": 512, "intermediate_size": 8192, "num_hidden_layers": 16} | {
    "layer_types": ["full_attention"] * 16, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
}  # fmt: skip
"""213 million numbers, nearly all of them in linear layers."""


def case(dtype: str, quantization: str | None = None) -> Case:
    return Case(
        weights="random:0", engine="transformers", device="cpu", dtype=dtype, quantization=quantization or dtype, workload="p",
        output_tokens=4,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_with_the_weights_of_an_ordinary_model_it_computes_the_same(name: str, dtype: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    built = build(ARCHITECTURES[name], case(dtype))
    ordinary = AutoModelForCausalLM.from_config(AutoConfig.for_model(**ARCHITECTURES[name]), dtype=built.dtype).eval()
    buffers = dict(ordinary.named_buffers())
    assert {key: torch.equal(value, buffers[key]) for key, value in built.named_buffers()} == dict.fromkeys(buffers, True)
    assert [key for key, value in built.named_parameters() if value.ndim == 1 and key.endswith("norm.weight")
            and not torch.equal(value, ordinary.get_parameter(key))] == []  # fmt: skip
    ids = torch.arange(20, 50)[None]
    with torch.no_grad():
        for key, value in built.named_parameters():
            value.copy_(ordinary.get_parameter(key))
        assert torch.equal(built(ids).logits, ordinary(ids).logits)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_generates_with_finite_logits(name: str, dtype: str) -> None:
    import torch

    model = build(ARCHITECTURES[name], case(dtype))
    assert not model.training
    assert {tensor.device.type for tensor in [*model.parameters(), *model.buffers()]} == {"cpu"}
    done = model.generate(
        torch.arange(20, 40)[None], max_new_tokens=4, do_sample=False, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert done.sequences.shape == (1, 24)
    for logits in done.logits:
        assert logits.isfinite().all()
        assert 0.01 < logits.float().std() < 1  # 0.02 × √32 is 0.11


@pytest.mark.slow
def test_tied_weights_stay_one_and_others_two() -> None:
    for name, tied in {"gemma3_text": True, "gemma3": True, "llama": False}.items():
        model = build(ARCHITECTURES[name], case("bf16"))
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


@pytest.mark.slow
def test_weights_come_from_one_seed_and_no_generator_of_others_moves() -> None:
    import torch

    before = torch.random.get_rng_state()
    one, other = (build(ARCHITECTURES["gemma3"], case("fp32")) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, other.get_parameter(key)) for key, value in one.named_parameters())


@pytest.mark.slow
def test_matrices_are_spread_and_no_row_comes_twice() -> None:
    import torch

    model = build(ARCHITECTURES["llama"] | {"vocab_size": 40_000, "initializer_range": 0.05}, case("fp32"))
    embeddings = model.get_input_embeddings().weight.detach()
    assert embeddings.numel() > BLOCK
    assert len(torch.unique(embeddings, dim=0)) == 40_000
    assert embeddings.std(dim=1).min() > 0.01
    assert embeddings.std() == pytest.approx(0.05, rel=0.01)
    assert embeddings.mean() == pytest.approx(0, abs=0.001)
    firsts = [tuple(value.flatten()[:4].tolist()) for value in model.parameters() if value.ndim > 1]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.slow
def test_a_level_is_made_of_every_linear_layer_but_the_head() -> None:
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.nn import Linear4bit
    from torch import arange
    from torch.nn import Linear

    model = build(ARCHITECTURES["gemma3"], case("bf16", "nf4"))
    plain = [key for key, module in model.named_modules() if isinstance(module, Linear) and not isinstance(module, Linear4bit)]
    assert plain == ["lm_head"]
    assert sum(isinstance(module, Linear4bit) for module in model.modules()) == 4 * 7 + 2 * 6
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model(arange(20, 40)[None]).logits.isfinite().all()


@pytest.mark.slow
def test_levels_that_no_loader_makes_are_made_as_for_loaded_weights() -> None:
    from torch.nn import Linear

    model = build(ARCHITECTURES["gemma3_text"], case("fp32", "dynamic-int8"))
    assert not any(isinstance(module, Linear) for module in model.modules())
    with pytest.raises(UnsupportedError, match="no layer of this model is a multiple of that wide"):
        build(ARCHITECTURES["gemma3_text"], case("bf16", "quanto-int4"))


PEAK = """
import json, sys
from bench.engines.weights_bytes import weights_bytes
from bench.engines.random_model import build
from results.cases import Case

def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

architecture, case = json.loads(sys.argv[1]), Case.model_validate_json(sys.argv[2])
build(architecture | {"intermediate_size": 64, "num_hidden_layers": 1, "layer_types": ["full_attention"]}, case)
open("/proc/self/clear_refs", "w").write("5")
before = kilobytes("VmRSS")
model = build(architecture, case)
print(json.dumps([(kilobytes("VmHWM") - before) * 1024, weights_bytes(model)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is the kernel's")
@pytest.mark.parametrize(("level", "most"), [("bf16", 1.1), ("torchao-int8", 1.7)])  # all of it in bf16 first would be 2 and more
def test_building_takes_little_more_memory_than_the_model(level: str, most: float) -> None:
    if level != "bf16":
        pytest.importorskip("torchao")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, json.dumps(WIDE), case("bf16", level).model_dump_json()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    peak, weights = json.loads(done.stdout)
    numbers = 213e6
    assert weights == pytest.approx(numbers * (2 if level == "bf16" else 1), rel=0.05)
    assert peak < weights * most


@pytest.mark.slow
def test_what_transformers_does_not_build_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="makes no gemma99 of this configuration"):
        build({"model_type": "gemma99"}, case("bf16"))
    with pytest.raises(UnsupportedError, match="makes no llama of this configuration"):
        build({"model_type": "llama", "hidden_size": "wide"}, case("bf16"))
    with pytest.raises(UnsupportedError, match="t5 is no causal language model"):
        build({"model_type": "t5"}, case("bf16"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="the package that this misses is installed")
def test_a_package_that_an_architecture_needs_is_named() -> None:
    with pytest.raises(MissingDependencyError, match="pip install timm"):
        build({"model_type": "gemma3n"}, case("bf16"))


@given(st.text(), st.integers(64, 300_000))
def test_ids_lie_inside_the_vocabulary_away_from_special_tokens(text: str, vocabulary: int) -> None:
    ids = StandInTokenizer(vocabulary)(text).input_ids
    assert ids == StandInTokenizer(vocabulary)(text, add_special_tokens=False).input_ids
    assert all(vocabulary // 4 <= one < vocabulary // 4 + vocabulary // 2 for one in ids)


@given(st.lists(st.integers(0, 262_143)))
def test_what_a_model_says_encodes_to_as_many_tokens_again(ids: list[int]) -> None:
    tokenizer = StandInTokenizer(262_144)
    text = tokenizer.decode(ids)
    again = tokenizer(text, add_special_tokens=False).input_ids
    assert len(again) == len(ids)
    assert all(one == other for one, other in zip(ids, again, strict=True) if 65_536 <= one < 196_608)


def test_prompts_of_other_numbers_begin_with_other_ids() -> None:
    tokenizer = StandInTokenizer(262_144)
    assert len({tokenizer(f"{number}.12345678 What is it?").input_ids[0] for number in range(10_000)}) == 10_000
    assert len({tuple(tokenizer(f"1.{mark:08d}").input_ids) for mark in range(0, 10**8, 9_973)}) == 10_028


def test_english_takes_about_as_many_tokens_as_with_a_real_tokenizer() -> None:
    text = "Explain quantum computing in simple terms, please."
    assert len(StandInTokenizer(262_144)(text).input_ids) == 16


def sizes(encode: Callable[[str], Any]) -> list[int]:
    return [len(encode(text).input_ids) for text in ("", " \n", "¿Qué?", "<1><99999>", "<" + "1" * 5000 + ">")]


def test_odd_texts_have_a_length_too() -> None:
    assert sizes(StandInTokenizer(320)) == [0, 0, 3, 2, 1252]


SUITE = """
name: random-weights
question: Does the stored peak agree with what the kernel says?
defaults: {weights: random, dtype: bf16, prompt_tokens: 16, output_tokens: 4, processes: 1, iterations: 1, min_seconds: 0, warmup: 0}
matrix:
  model: [gemma-3-1b-it]
"""
BENCH = (sys.executable, "-P", "-c", "from bench.cli import main; main()")


def children(pid: int) -> list[int]:
    try:
        return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
    except OSError:
        return []


def resident_bytes(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    return total


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_stored_peak_agrees_with_readings_taken_independently(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    highest = readings = 0
    with subprocess.Popen([*BENCH, "run", "suite.yaml"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        while run.poll() is None:
            worker = children(run.pid)
            found = resident_bytes(worker + [one for pid in worker for one in children(pid)])
            highest, readings = max(highest, found), readings + 1
            time.sleep(0.01)
        assert run.stdout is not None
        assert run.returncode == 0, run.stdout.read().decode()
    with Store.reading(str(tmp_path / ".bench/results.db")) as store:
        (measurement,) = store.report(store.resolve_run("latest")).measurements
    assert readings > 500
    assert measurement.values["weights_bytes"] == pytest.approx(2 * 999_885_952, rel=0.001)
    assert measurement.values["peak_rss_bytes"] == pytest.approx(highest, rel=0.03)
