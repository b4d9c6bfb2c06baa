"""The KV cache of transformers: how each kind is made and filled beforehand, its bytes, and which kinds a case cannot have."""

import math
from importlib.util import find_spec
from typing import Any

from results.cases import Case

QUANTO = {"int4": 4, "int2": 2}
"""Bits of the formats that optimum-quanto makes."""
FP8 = "fp8"
QUANTIZED = (*QUANTO, FP8)
GROUP = 64
"""Numbers that share a scale in the formats of optimum-quanto, where a head has so many."""
PIECE_TOKENS = 512
"""Computed at a time when a cache is filled beforehand: a long context needs no more memory for it than that."""


def refusal(case: Case) -> str | None:
    kind, dtype = case.kv_cache, case.kv_dtype
    if kind == "off" and (case.depth or dtype):
        return "without a KV cache there is nothing to fill or to format: leave depth and kv_dtype out, or kv_cache."
    if kind == "offloaded" and case.device != "cuda":
        return f"an offloaded KV cache moves between a CUDA device and the host, and this is {case.device}: leave kv_cache out."
    if kind == "quantized":
        if dtype not in (None, *QUANTIZED):
            return f"the quantized KV cache of transformers has no {dtype}: choose kv_dtype {', '.join(QUANTIZED)}."
        if dtype != FP8 and not (find_spec("optimum") and find_spec("optimum.quanto")):
            return "a KV cache in int4 or int2 needs a package that is not installed: pip install optimum-quanto."
    elif dtype not in (None, case.dtype):
        return f"transformers keeps a KV cache in {case.dtype}, as it computes, not {dtype}: give kv_cache quantized for {', '.join(QUANTIZED)}."
    return None


def unsupported(model: Any, case: Case) -> str | None:
    """Why the case asks for a KV cache that this model cannot have; `None` when it can."""
    asked = case.kv_cache not in (None, "off") or case.kv_dtype or case.compile_mode or case.depth
    if asked and not model._supports_default_dynamic_cache():
        return "the model keeps a state of its own kind, not a KV cache: leave kv_cache, kv_dtype, compile and depth out."
    return None


def is_static(case: Case) -> bool:
    return case.kv_cache == "static" or (case.kv_cache is None and case.compile_mode is not None)


def make(model: Any, case: Case, tokens: int) -> Any:
    """An empty cache; `None`: there shall be none, or the model makes one of its own kind.

    Args:
        tokens: that it must hold in each sequence, which matters to a static one.
    """
    from transformers import DynamicCache, StaticCache

    if case.kv_cache == "off" or not model._supports_default_dynamic_cache():
        return None
    config = model.config.get_text_config(decoder=True)
    if is_static(case):
        return StaticCache(config=config, max_cache_len=tokens)
    if case.kv_cache == "quantized":
        return _quantized(config, case.kv_dtype or "int4")
    return DynamicCache(config=config, offloading=case.kv_cache == "offloaded")


def _quantized(config: Any, dtype: str) -> Any:
    """Layers of full attention in few bits; those with a sliding window are short and stay as they are, which the cache that
    transformers makes itself refuses."""
    from transformers import DynamicCache
    from transformers.cache_utils import Cache, DynamicLayer, Fp8QuantizedLayer, QuantoQuantizedLayer

    def quantized() -> Any:
        if dtype == FP8:
            return Fp8QuantizedLayer()
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return QuantoQuantizedLayer(nbits=QUANTO[dtype], q_group_size=math.gcd(GROUP, head))

    plain = DynamicCache(config=config).layers
    return Cache(layers=[quantized() if type(layer) is DynamicLayer else layer for layer in plain])


def fill(model: Any, cache: Any, ids: Any, mask: Any, pad: int) -> None:
    """Compute the cache of these tokens, shape (sequences, tokens), as an earlier request would have left it."""
    from transformers import GenerationConfig

    earlier = GenerationConfig(
        max_new_tokens=1, do_sample=False, pad_token_id=pad, prefill_chunk_size=PIECE_TOKENS, disable_compile=True
    )
    model.generate(ids, attention_mask=mask, generation_config=earlier, past_key_values=cache)


def cache_bytes(cache: Any) -> int:
    """Of the storages of its keys and values; a static cache has its whole size from the first request on."""
    parts = [getattr(layer, name, None) for layer in cache.layers for name in PARTS]
    return sum(_bytes(part) for part in parts)


PARTS = ("keys", "values", "_quantized_keys", "_quantized_values")


def _bytes(part: Any) -> int:
    if part is None or isinstance(part, float):
        return 0
    if isinstance(part, tuple):
        return sum(_bytes(one) for one in part)
    if hasattr(part, "__tensor_flatten__"):
        return sum(_bytes(getattr(part, name)) for name in part.__tensor_flatten__()[0])
    return int(part.untyped_storage().nbytes())
