"""Dimensions: parameters are exactly those that transformers builds, and caches are as long as each layer looks back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.architecture import Architecture
from bench.catalog import catalog
from bench.dimensions import Linear

SMALL: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
PER_LAYER = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300, "num_kv_shared_layers": 5}
FIVES = (["sliding_attention"] * 4 + ["full_attention"]) * 2
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}


def architecture(**config: Any) -> Architecture:
    found = Architecture.from_config(config)
    assert found is not None
    return found


def of(name: str) -> Architecture:
    return architecture(**(catalog()[name].architecture or {}))


@pytest.mark.parametrize("name", [name for name, entry in catalog().items() if entry.base])
def test_catalog_models_have_the_parameters_that_the_catalog_says(name: str) -> None:
    assert of(name).parameters == catalog()[name].parameters


def test_windows_cap_all_but_every_sixth_layer_of_gemma_3() -> None:
    one_b = of("gemma-3-1b-pt")
    width = 2 * 1 * 256  # keys and values of one head
    assert one_b.kv_cache_bytes(4096, 1, 2) == (4 * 4096 + 22 * 512) * width * 2
    assert one_b.kv_cache_bytes(100, 3, 4) == 26 * 100 * width * 4 * 3
    assert one_b.kv_cache_bytes(4096, 1, 2, beyond=512) == (4 * 4096 + 22 * 1024) * width * 2
    assert one_b.kv_cache_bytes(4096, 1, 0.5, windowed_bytes=2) == (4 * 4096 * 0.5 + 22 * 512 * 2) * width
    assert one_b.kv_bytes_of_all(4096, 1, 2) == 26 * 4096 * width * 2


def test_every_second_layer_of_gemma_2_slides() -> None:
    assert of("gemma-2-2b").kv_cache_bytes(8192, 1, 2) == (13 * 8192 + 13 * 4096) * 2 * 4 * 256 * 2


def test_layers_that_share_a_cache_have_none() -> None:
    assert of("gemma-3n-e2b").kv_cache_bytes(1000, 1, 2) == (4 * 1000 + 16 * 512) * 2 * 2 * 256 * 2
    full, sliding = 2 * 1 * 512, 2 * 1 * 256  # of Gemma 4 the heads of full attention are wider
    assert of("gemma-4-e2b").kv_cache_bytes(1000, 1, 2) == (3 * 1000 * full + 12 * 512 * sliding) * 2


def test_every_layer_of_other_models_may_look_at_everything() -> None:
    assert architecture(model_type="qwen3", **SMALL).kv_cache_bytes(1000, 2, 2) == 6 * 1000 * 2 * 2 * 16 * 2 * 2
    assert architecture(model_type="mistral", sliding_window=10, **SMALL).kv_cache_bytes(1000, 1, 2) == 6 * 10 * 2 * 2 * 16 * 2


@given(st.integers(1, 10**6), st.integers(1, 64), st.sampled_from(["gemma-3-270m", "gemma-2-9b", "gemma-4-31b", "gemma-2b"]))
def test_caches_grow_with_tokens_and_sequences(tokens: int, sequences: int, name: str) -> None:
    one = of(name)
    size = one.kv_cache_bytes(tokens, sequences, 2)
    assert size <= one.kv_cache_bytes(tokens + 1, sequences, 2) <= one.kv_bytes_of_all(tokens + 1, sequences, 2)
    assert one.kv_cache_bytes(tokens, 2 * sequences, 2) == 2 * size


def test_models_that_are_not_understood_have_no_architecture() -> None:
    assert Architecture.from_config({"model_type": "mamba", **SMALL}) is None
    assert Architecture.from_config({"model_type": "llama", "hidden_size": 64}) is None
    assert Architecture.from_config({"model_type": "llava", "text_config": {"model_type": "llama", **SMALL}}) is None
    assert Architecture.from_config({}) is None
    assert Architecture.from_config({"model_type": "llama", **SMALL, "hidden_size": "wide"}) is None
    assert Architecture.from_config({"model_type": "gemma3", "text_config": 5}) is None
    timm = {"text_config": {}, "model_type": "gemma3n", "vision_config": {"architecture": "resnet50"}}
    assert Architecture.from_config(timm) is None


def test_floats_and_levels_in_bytes() -> None:
    one = architecture(model_type="llama", tie_word_embeddings=True, **SMALL)
    matrices = 6 * (64 * 64 * 2 + 32 * 64 * 2 + 96 * 64 * 3)
    rest = 320 * 64 + 6 * 2 * 64 + 64
    rows = 6 * (2 * 64 + 2 * 32 + 2 * 96 + 64)
    assert one.parameters == matrices + rest
    assert one.weights_bytes("fp32", "fp32") == 4 * (matrices + rest)
    assert one.weights_bytes("bf16", "bf16") == 2 * (matrices + rest)
    assert one.weights_bytes("int8", "bf16") == matrices + 4 * rows + 2 * rest
    assert one.weights_bytes("torchao-int8", "bf16") == matrices + 2 * rows + 2 * rest
    assert one.weights_bytes("torchao-int4", "bf16") == 2 * (matrices + rest)  # no row is a multiple of 128 long
    dynamic = matrices + 8 * 6 * 7 + 4 * rest
    assert one.weights_bytes("dynamic-int8", "fp32") == dynamic
    assert one.weights_bytes("dynamic-int8", "fp32", quantized_head=True) == dynamic + 320 * 64 + 8
    with pytest.raises(KeyError):
        one.weights_bytes("q4_k_m", "fp32")


def test_adapters_lie_on_attention_and_mlp() -> None:
    one = architecture(model_type="gemma3_text", **SMALL)
    shapes = [Linear(64, 64), Linear(32, 64), Linear(32, 64), Linear(64, 64), Linear(96, 64), Linear(96, 64), Linear(64, 96)]
    assert one.lora_numbers(8) == 6 * 8 * sum(shape.outputs + shape.inputs for shape in shapes)


CONFIGS: dict[str, dict[str, Any]] = {
    "gemma": {"model_type": "gemma", **SMALL},
    "gemma with biases": {"model_type": "gemma", **SMALL, "attention_bias": True},
    "gemma 2": {"model_type": "gemma2", **SMALL},
    "gemma 3": {"model_type": "gemma3_text", **SMALL},
    "gemma 3 with a head": {"model_type": "gemma3_text", **SMALL, "tie_word_embeddings": False},
    "gemma 3 that sees": {
        "model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **SMALL},
        "vision_config": {"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
    },
    "gemma 3 with a vision head": {
        "model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **SMALL},
        "vision_config": {"model_type": "siglip_vision_model", **VISION},
    },
    "gemma 3n": {
        "model_type": "gemma3n_text", **SMALL, **PER_LAYER, "num_hidden_layers": 10, "layer_types": FIVES, "laurel_rank": 4,
        "altup_num_inputs": 3,
    },
    "gemma 3n, layers of several widths": {
        "model_type": "gemma3n_text", **SMALL, **PER_LAYER, "num_hidden_layers": 10, "layer_types": FIVES,
        "intermediate_size": [96, 128] * 5,
    },
    "gemma 4 small": {
        "model_type": "gemma4_text", **SMALL, **PER_LAYER, "num_hidden_layers": 10, "layer_types": FIVES, "global_head_dim": 32,
        "use_double_wide_mlp": True,
    },
    "gemma 4 large": {
        "model_type": "gemma4_text", **SMALL, "hidden_size_per_layer_input": 0, "global_head_dim": 32, "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
    },
    "gemma 4, heads by layer": {
        "model_type": "gemma4_text", **SMALL, "hidden_size_per_layer_input": 0,
        "per_layer_config": {"5": {"head_dim": 48, "num_key_value_heads": 1}},
    },
    "gemma 4 with experts": {
        "model_type": "gemma4_text", **SMALL, "hidden_size_per_layer_input": 0, "global_head_dim": 32, "enable_moe_block": True,
        "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24,
    },
    "gemma 4 that sees and hears": {
        "model_type": "gemma4", "text_config": {"model_type": "gemma4_text", **SMALL, "hidden_size_per_layer_input": 0},
        "vision_config": {
            "model_type": "gemma4_vision", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "position_embedding_size": 100,
        },
        "audio_config": {"model_type": "gemma4_audio", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    },
    "gemma 4 unified": {
        "model_type": "gemma4_unified", "text_config": {"model_type": "gemma4_unified_text", **SMALL},
        "vision_config": {"model_type": "gemma4_unified_vision", "mm_embed_dim": 48, "mm_posemb_size": 20},
        "audio_config": {"model_type": "gemma4_unified_audio", "audio_embed_dim": 40},
    },
    "llama": {"model_type": "llama", **SMALL},
    "llama with biases": {"model_type": "llama", **SMALL, "attention_bias": True, "mlp_bias": True},
    "granite": {"model_type": "granite", **SMALL},
    "mistral": {"model_type": "mistral", **SMALL},
    "olmo 2": {"model_type": "olmo2", **SMALL},
    "qwen 2": {"model_type": "qwen2", **SMALL},
    "qwen 3": {"model_type": "qwen3", **SMALL},
    "smollm 3": {"model_type": "smollm3", **SMALL},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_that_transformers_builds(name: str) -> None:
    model = _built(CONFIGS[name])
    assert architecture(**CONFIGS[name]).parameters == sum(one.numel() for one in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma 2", "gemma 3", "gemma 3n", "gemma 4 small", "gemma 4 large", "llama", "qwen 3"])
def test_caches_are_those_that_transformers_fills(name: str) -> None:
    import torch
    from transformers import DynamicCache, StaticCache

    config = CONFIGS[name] | ({} if name in ("llama", "qwen 3") else {"sliding_window": 8})
    model, tokens = _built(config, "cpu"), 21
    one = architecture(**config)
    for kind in ("dynamic", "static"):
        text = model.config.get_text_config()
        cache = DynamicCache(config=text) if kind == "dynamic" else StaticCache(config=text, max_cache_len=tokens)
        with torch.inference_mode():
            for ids in (torch.ones((3, tokens - 1), dtype=torch.long), torch.ones((3, 1), dtype=torch.long)):
                model(input_ids=ids, past_key_values=cache, use_cache=True)
        held = sum(part.numel() for layer in cache.layers for part in (layer.keys, layer.values) if part is not None) * 4
        window = (
            sum(layer.cached for layer in one.layers if layer.window) * 3 * 4
        )  # dynamic ones keep a token less than the window
        assert held == one.kv_cache_bytes(tokens, 3, 4) - (window if kind == "dynamic" else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "level", ["int8", "nf4", "torchao-int8", "torchao-int8-dynamic", "quanto-int8", "quanto-int4", "torchao-int4"]
)
def test_levels_are_as_large_as_what_the_packages_make(level: str) -> None:
    from fakes import make_case

    from bench.engines import random_model, weights_bytes

    config = {"model_type": "gemma3_text", **SMALL, "hidden_size": 256, "head_dim": 64, "intermediate_size": 512}
    case = make_case(quantization=level, dtype="bf16", source_precision=None, weights="random:x")
    made = weights_bytes.weights_bytes(random_model.build(config, case))
    assert architecture(**config).weights_bytes(level, "bf16") == pytest.approx(made, rel=0.02)


def _built(config: dict[str, Any], device: str = "meta") -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
