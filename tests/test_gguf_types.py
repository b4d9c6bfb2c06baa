"""Which type each tensor gets at a level: the rules of llama.cpp's quantizer, and its own file as a witness."""

from collections import Counter
from pathlib import Path

import pytest

from bench.catalog import catalog
from bench.gguf_file import GgufFile, Tensor, map_gguf, number
from bench.gguf_types import LEVELS, Type, refusal, size_at, types
from bench.weights import prepare, resolve

TEXT = 8


def model(layers: int = 32, width: int = 4096, *, tied: bool = False, kv_heads: int = 8, experts: int = 0) -> GgufFile:
    """A Llama: attention and MLP, norms, embeddings."""
    told = {"block_count": layers, "attention.head_count": 32, "attention.head_count_kv": kv_heads, "expert_count": experts}
    parts = {
        "attn_q": (width, width), "attn_k": (width, width // 4), "attn_v": (width, width // 4), "attn_output": (width, width),
        "ffn_gate": (width, 2 * width), "ffn_up": (width, 2 * width), "ffn_down": (2 * width, width), "attn_norm": (width,),
    }  # fmt: skip
    shapes = {"token_embd.weight": (width, 1000), "output_norm.weight": (width,)}
    shapes |= {} if tied else {"output.weight": (width, 1000)}
    shapes |= {f"blk.{layer}.{name}.weight": shape for layer in range(layers) for name, shape in parts.items()}
    tensors = tuple(Tensor(name, shape, Type.F32, 0) for name, shape in shapes.items())
    pairs = {f"llama.{key}": number(value) for key, value in told.items()}
    return GgufFile(pairs | {"general.architecture": (TEXT, (5).to_bytes(8, "little") + b"llama")}, tensors, 0, 32)


def named(file: GgufFile, level: str, part: str) -> list[str]:
    """The types of one part, layer by layer."""
    made = types(file, level)
    return [Type(made[tensor.name]).name for tensor in file.tensors if f".{part}." in tensor.name]


def test_layers_at_both_ends_and_each_third_one_between_get_more_bits() -> None:
    more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    for level, usual in (("q4_k_m", "Q4_K"), ("q5_k_m", "Q5_K")):
        wanted = ["Q6_K" if layer in more else usual for layer in range(32)]
        assert named(model(), level, "attn_v") == named(model(), level, "ffn_down") == wanted
        assert set(named(model(), level, "attn_q") + named(model(), level, "attn_output")) == {usual}


def test_the_coarse_levels_spare_what_is_easily_hurt() -> None:
    assert named(model(), "q3_k_m", "attn_v") == ["Q5_K"] * 2 + ["Q4_K"] * 30
    assert named(model(), "q3_k_m", "ffn_down") == ["Q5_K"] * 2 + ["Q4_K"] * 30
    assert set(named(model(), "q3_k_m", "attn_output")) == {"Q4_K"}
    assert set(named(model(), "q2_k", "attn_v")) == {"Q4_K"}
    assert set(named(model(kv_heads=16), "q2_k", "attn_v")) == {"Q3_K"}
    assert set(named(model(), "q2_k", "ffn_down") + named(model(), "q2_k", "attn_output")) == {"Q3_K"}
    assert set(named(model(), "q2_k", "ffn_up")) == {"Q2_K"}


def test_large_and_mixed_models_have_rules_of_their_own() -> None:
    assert set(named(model(80), "q4_k_m", "attn_v")) == {"Q5_K", "Q6_K"}
    mixed = model(experts=8)
    assert set(named(mixed, "q4_k_m", "attn_v") + named(mixed, "q4_k_m", "attn_k")) == {"Q8_0"}
    assert set(named(mixed, "q4_k_m", "attn_output")) == {"Q5_K"}
    many = GgufFile(mixed.pairs, tuple(reversed(mixed.tensors)), 0, 32)
    assert types(many, "q4_k_m") == types(mixed, "q4_k_m")


@pytest.mark.parametrize(
    ("level", "tied", "embeddings", "output"),
    [
        ("q4_k_m", False, "Q4_K", "Q6_K"), ("q4_k_m", True, "Q6_K", None), ("q4_0", True, "Q6_K", None),
        ("q8_0", True, "Q8_0", None), ("bf16", False, "BF16", "BF16"), ("fp32", True, "F32", None),
    ],
)  # fmt: skip
def test_what_makes_the_logits_stays_fine(level: str, tied: bool, embeddings: str, output: str | None) -> None:
    made = types(model(tied=tied), level)
    assert Type(made["token_embd.weight"]).name == embeddings
    assert output is None or Type(made["output.weight"]).name == output


@pytest.mark.parametrize(
    ("width", "level", "wanted"),
    [
        (640, "q6_k", "Q8_0"), (640, "q5_k_m", "Q5_1"), (640, "q4_k_m", "Q5_0"), (640, "q3_k_m", "Q4_0"), (640, "q2_k", "Q4_0"),
        (640, "q8_0", "Q8_0"), (24, "q4_k_m", "F16"), (24, "q8_0", "F16"), (24, "bf16", "BF16"),
    ],
)  # fmt: skip
def test_rows_that_are_no_multiple_of_a_block_get_another_type(width: int, level: str, wanted: str) -> None:
    assert set(named(model(4, width), level, "ffn_up")) == {wanted}


def test_small_tensors_stay_as_they_are() -> None:
    kept = ["blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "altup_proj.weight", "per_layer_model_proj.weight", "x.bias"]
    tensors = tuple(Tensor(name, (256, 256), Type.F16, 0) for name in (*kept, "per_layer_token_embd.weight"))
    tensors += (Tensor("blk.0.flat.weight", (256, 1), Type.F32, 0),)
    made = types(GgufFile(model().pairs, tensors, 0, 32), "q4_0")
    assert {Type(made[name]).name for name in kept} == {"F16"}
    assert Type(made["blk.0.flat.weight"]).name == "F32"
    assert Type(made["per_layer_token_embd.weight"]).name == "Q6_K"


def test_sizes_fall_from_level_to_level() -> None:
    sizes = [size_at(model(), level) for level in LEVELS]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 4 * sum(tensor.elements for tensor in model().tensors)


def test_levels_that_need_more_than_the_weights_are_refused() -> None:
    assert "iq2_xxs needs an importance matrix" in (refusal(model(), "iq2_xxs") or "")
    assert "nf4 is made while transformers loads a model" in (refusal(model(), "nf4") or "")
    assert refusal(model(), "q2_k") is None


@pytest.mark.slow
@pytest.mark.engine
def test_the_types_are_those_that_llama_quantize_chose() -> None:
    package = catalog()["gemma-3-270m"].package
    assert package
    pytest.importorskip(package.module)
    path = prepare(resolve("gemma-3-270m", "model"), lambda *_: None, "gguf")
    assert isinstance(path, Path)
    file = map_gguf(path)
    assert types(file, "q4_k_m") == {tensor.name: tensor.type_id for tensor in file.tensors}
    assert Counter(Type(tensor.type_id).name for tensor in file.tensors) == {
        "F32": 109,
        "Q5_0": 81,
        "Q4_K": 27,
        "Q8_0": 10,
        "Q6_K": 9,
    }
