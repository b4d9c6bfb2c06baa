"""The decoder layers of causal language models, from their configurations: the families that are known, and what each adds.

Names of weights and their shapes are those of `modeling_*.py` in transformers 5; a test builds them there and counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.dimensions import Layer, Part, linear

Config = Mapping[str, Any]
NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class Family:
    """Models whose layers have the same weights."""

    norms: int = 2
    """Of the hidden width, in each layer."""
    head_norms: Literal["", "head", "all"] = ""
    """Norms of queries and keys, of the width of one head or of all of them."""
    bias: bool = False
    """Of queries, keys and values."""
    sliding: Callable[[Config, int], bool] = lambda _config, _layer: False
    """Whether a layer has the sliding window, where `layer_types` does not say so."""
    defaults: Config = field(default_factory=dict)
    """What a configuration leaves out where it is so."""


def _all_but_every(count: int) -> Callable[[Config, int], bool]:
    return lambda config, layer: (layer + 1) % config.get("sliding_window_pattern", count) != 0


def _qwen(config: Config, layer: int) -> bool:
    return bool(config.get("use_sliding_window")) and layer >= int(config.get("max_window_layers", 28))


_GEMMA = {"head_dim": 256, "tie_word_embeddings": True}
_GEMMA4 = {
    "vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30, "num_attention_heads": 8,
    "num_key_value_heads": 4, "sliding_window": 512, "global_head_dim": 512, **_GEMMA,
}  # fmt: skip
FAMILIES = {
    "gemma": Family(defaults={
        "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 16, **_GEMMA,
    }),
    "gemma2": Family(norms=4, sliding=_all_but_every(2), defaults={
        "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "sliding_window": 4096, **_GEMMA,
    }),
    "gemma3_text": Family(norms=4, head_norms="head", sliding=_all_but_every(6), defaults={
        "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "sliding_window": 4096, **_GEMMA,
    }),
    "gemma3n_text": Family(norms=4, head_norms="head", sliding=_all_but_every(5), defaults={
        "vocab_size": 262400, "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 35, "num_attention_heads": 8,
        "num_key_value_heads": 2, "sliding_window": 512, "num_kv_shared_layers": 15, "altup_num_inputs": 4, "laurel_rank": 64,
        "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144, **_GEMMA,
    }),
    "gemma4_text": Family(norms=4, head_norms="head", sliding=_all_but_every(6), defaults=_GEMMA4 | {
        "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144,
    }),
    "gemma4_unified_text": Family(norms=4, head_norms="head", sliding=_all_but_every(6), defaults=_GEMMA4 | {"sliding_window": 1024}),
    "llama": Family(),
    "granite": Family(),
    "mistral": Family(sliding=lambda _config, _layer: True),
    "olmo2": Family(head_norms="all"),
    "qwen2": Family(bias=True, sliding=_qwen),
    "qwen3": Family(head_norms="head", sliding=_qwen),
    "smollm3": Family(sliding=_qwen, defaults={"tie_word_embeddings": True}),
}  # fmt: skip
"""By `model_type`."""


def completed(config: Config) -> Config | None:
    """The configuration of a text model with all that it leaves out; `None`: its family is not known, or something is missing."""
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        return None
    found = {**family.defaults, **{name: value for name, value in config.items() if value is not None}}
    if not all(name in found for name in NEEDED):
        return None
    found.setdefault("num_key_value_heads", found["num_attention_heads"])
    found.setdefault("head_dim", found["hidden_size"] // found["num_attention_heads"])
    return found


def layers(config: Config) -> tuple[Layer, ...]:
    """
    Args:
        config: as `completed` makes it.
    """
    return tuple(_layer(config, number) for number in range(config["num_hidden_layers"]))


def outside(config: Config) -> Part:
    """Weights beside the layers, the head and the embeddings of tokens: the last norm, and Gemma's embeddings per layer."""
    hidden = config["hidden_size"]
    found = Part(others=hidden)
    if width := config.get("hidden_size_per_layer_input"):
        all_layers = width * config["num_hidden_layers"]
        found += linear(all_layers, hidden) + Part(others=width + config["vocab_size_per_layer_input"] * all_layers)
    if inputs := config.get("altup_num_inputs"):
        found += linear(hidden, hidden, copies=2 * (inputs - 1))
    return found


def _layer(config: Config, number: int) -> Layer:
    family, hidden = FAMILIES[config["model_type"]], config["hidden_size"]
    slides = _slides(config, family, number)
    attention = _attention(config, number, slides=slides)
    head, heads, kv_heads = attention["head_dim"], config["num_attention_heads"], attention["num_key_value_heads"]
    reuses = number >= config["num_hidden_layers"] - config.get("num_kv_shared_layers", 0)
    keys = 0 if reuses else 1 if config.get("attention_k_eq_v") and not slides else 2
    bias = family.bias or bool(config.get("attention_bias"))
    part = linear(heads * head, hidden, bias=bias) + linear(kv_heads * head, hidden, bias=bias) * keys
    part += linear(hidden, heads * head, bias=bool(config.get("attention_bias")))
    if family.head_norms:
        queries, per_key = (head, head) if family.head_norms == "head" else (heads * head, kv_heads * head)
        part += Part(others=queries + per_key * (not reuses))
    intermediate = config["intermediate_size"]
    if isinstance(intermediate, list | tuple):
        intermediate = intermediate[number]
    intermediate *= 1 + bool(reuses and config.get("use_double_wide_mlp"))
    mlp_bias = bool(config.get("mlp_bias"))
    part += linear(intermediate, hidden, bias=mlp_bias) * 2 + linear(hidden, intermediate, bias=mlp_bias)
    adapted = part.linears
    part += Part(others=family.norms * hidden) + _extras(config)
    chosen = config.get("top_k_experts", 0) * config["moe_intermediate_size"] if config.get("enable_moe_block") else 0
    window = config.get("sliding_window") if slides else None
    return Layer(part, adapted, heads, heads * head, intermediate + chosen, 0 if reuses else 2 * kv_heads * head, window)


def _slides(config: Config, family: Family, number: int) -> bool:
    if not config.get("sliding_window"):
        return False
    if config["model_type"].startswith("gemma4") and number == config["num_hidden_layers"] - 1:
        return False  # transformers sees to it that the last layer looks at everything
    kinds = config.get("layer_types")
    return bool(kinds[number] == "sliding_attention") if kinds else family.sliding(config, number)


def _attention(config: Config, number: int, *, slides: bool) -> dict[str, int]:
    """`head_dim` and `num_key_value_heads` of one layer; in Gemma 4 those of full attention differ."""
    found = {name: int(config[name]) for name in ("head_dim", "num_key_value_heads")}
    if "per_layer_config" in config:
        own = config["per_layer_config"].get(str(number), {})
        return found | {name: int(value) for name, value in own.items() if name in found}
    if "global_head_dim" in config and not slides:
        kv_heads = config.get("num_global_key_value_heads") if config.get("attention_k_eq_v") else None
        return {"head_dim": config["global_head_dim"], "num_key_value_heads": kv_heads or found["num_key_value_heads"]}
    return found


def _extras(config: Config) -> Part:
    """What Gemma 3n and 4 add to each layer."""
    hidden, found = config["hidden_size"], Part()
    if width := config.get("hidden_size_per_layer_input"):
        found += linear(width, hidden) + linear(hidden, width) + Part(others=hidden)
    if inputs := config.get("altup_num_inputs"):
        router = linear(inputs, hidden) + Part(others=2 * hidden)
        found += router + linear(inputs, inputs) + linear(inputs**2, inputs)
        rank = config["laurel_rank"]
        found += linear(rank, hidden) + linear(hidden, rank) + Part(others=hidden)
    if config.get("enable_moe_block"):
        experts, width = config["num_experts"], config["moe_intermediate_size"]
        found += linear(experts, hidden) + Part(others=hidden + experts + 3 * experts * width * hidden + 3 * hidden)
    return found
