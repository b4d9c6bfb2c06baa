"""Which type each tensor of a GGUF file gets at a level of quantization: the rules that llama.cpp's own quantizer follows.

They are those of `llama_tensor_get_type` in https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp for the levels
that need no importance matrix. Quantizing is left to `bench.requantize`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from bench.gguf_file import GgufFile, Tensor
from bench.quantizations import LEVELS as MADE_IN_MEMORY


class Type(IntEnum):
    """Types of tensors that a level here can have, by GGUF's number."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    BF16 = 30


BLOCKS: dict[int, tuple[int, int]] = {
    Type.F32: (1, 4), Type.F16: (1, 2), Type.BF16: (1, 2), Type.Q4_0: (32, 18), Type.Q4_1: (32, 20), Type.Q5_0: (32, 22),
    Type.Q5_1: (32, 24), Type.Q8_0: (32, 34), Type.Q2_K: (256, 84), Type.Q3_K: (256, 110), Type.Q4_K: (256, 144),
    Type.Q5_K: (256, 176), Type.Q6_K: (256, 210),
}  # fmt: skip
"""(numbers, bytes) of one block."""


@dataclass(frozen=True)
class Level:
    file_type: int
    """As `general.file_type` says it."""
    usual: Type
    """Of a tensor without a rule of its own."""


LEVELS = {
    "fp32": Level(0, Type.F32), "bf16": Level(32, Type.BF16), "fp16": Level(1, Type.F16), "q8_0": Level(7, Type.Q8_0),
    "q6_k": Level(18, Type.Q6_K), "q5_1": Level(9, Type.Q5_1), "q5_k_m": Level(17, Type.Q5_K), "q5_0": Level(8, Type.Q5_0),
    "q4_1": Level(3, Type.Q4_1), "q4_k_m": Level(15, Type.Q4_K), "q4_0": Level(2, Type.Q4_0), "q3_k_m": Level(12, Type.Q3_K),
    "q2_k": Level(10, Type.Q2_K),
}  # fmt: skip
"""Levels that can be made of any GGUF file, from the largest to the smallest. All others need an importance matrix, which is computed
from texts, or are rare."""

_FALLBACKS = {
    Type.Q2_K: Type.Q4_0, Type.Q3_K: Type.Q4_0, Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0,
}  # fmt: skip
"""What a tensor gets whose rows are no multiple of 256."""

_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_tid2eid\.weight|altup|laurel|per_layer_model_proj|^position_embd\.|^token_types\."
    r"|ssm_conv1d|shortconv\.conv\.weight|indexer\.[kq]_proj\.weight|time_mix_(first|[wva][012]|g[12]|decay_w[12]|lerp_fused)\.weight"
    r"|attn_rel_b\.weight|\.position_embd|sam\.(pos_embd|neck\.|net_)|\.rel_pos|\.patch_(embd|merger)|a\.rvq\.codebook|mm\.a\.code_embd"
)
"""Tensors that stay as they are, small or easily hurt."""

_CATEGORIES = {
    "value": r"attn_(v|qkv|kv_b)\.weight", "key": r"attn_k\.weight", "attn_output": r"attn_output\.weight", "ffn_down": r"ffn_down",
}  # fmt: skip


def refusal(file: GgufFile, level: str) -> str | None:
    """Why this level cannot be made of a file, in one sentence with a remedy."""
    if level in MADE_IN_MEMORY:
        return f"{level} is made while transformers loads a model: choose that engine, or of {', '.join(LEVELS)}"
    if level not in LEVELS:
        return (
            f"GGUF weights are quantized to {', '.join(LEVELS)} here, {level} needs an importance matrix or another quantizer: "
            "choose one of these, or name a file that has it"
        )
    if file.value("general.architecture") == "falcon":
        return "Falcon has rules of its own: name a file that has this level"
    return None


def types(file: GgufFile, level: str) -> dict[str, int]:
    """The type of each tensor, by its name; `level` is one of `LEVELS`."""
    usual = LEVELS[level].usual
    model = _Model(file)
    found, values, downs = {}, 0, 0
    for tensor in sorted(file.tensors, key=_order):
        if not _quantizes(tensor):
            found[tensor.name] = tensor.type_id
        elif BLOCKS[usual][0] == 1:
            found[tensor.name] = int(usual)
        else:
            category = next((name for name, pattern in _CATEGORIES.items() if re.search(pattern, tensor.name)), "")
            layer = _order(tensor)[0] if model.experts > 1 else downs
            found[tensor.name] = int(_fitting(tensor, _wanted(tensor, level, category, model, values, layer)))
            values += category == "value"
            downs += category == "ffn_down"
    return found


class _Model:
    """What the rules ask of a model."""

    def __init__(self, file: GgufFile) -> None:
        name = file.value("general.architecture")
        self.layers: int = file.value(f"{name}.block_count") or 0
        self.experts: int = file.value(f"{name}.expert_count") or 0
        heads = file.value(f"{name}.attention.head_count") or 1
        self.heads_per_kv: int = heads // (file.value(f"{name}.attention.head_count_kv") or heads)
        self.values = sum(bool(re.search(_CATEGORIES["value"], tensor.name)) for tensor in file.tensors)
        self.is_70b = name in ("llama", "qwen2") and self.layers == 80 and self.heads_per_kv > 1
        self._tied = not any(tensor.name == "output.weight" for tensor in file.tensors)

    def is_output(self, tensor: Tensor) -> bool:
        """Whether it makes the logits; embeddings do where there is nothing else for that."""
        embeds = tensor.name in ("token_embd.weight", "per_layer_token_embd.weight")
        return tensor.name == "output.weight" or (self._tied and embeds)


def _wanted(tensor: Tensor, level: str, category: str, model: _Model, values: int, layer: int) -> Type:
    """The type by the rules, whatever the shape of the tensor.

    Args:
        values: attention's value tensors before this one.
        layer: that the tensor is of.
    """
    usual, mixed = LEVELS[level].usual, level in ("q4_k_m", "q5_k_m")
    if model.is_output(tensor):
        return Type.Q8_0 if usual is Type.Q8_0 or tensor.shape[0] % BLOCKS[usual][0] else Type.Q6_K
    if category == "value":
        wanted = usual
        if level == "q2_k":
            wanted = Type.Q4_K if model.heads_per_kv >= 4 else Type.Q3_K
        elif level == "q3_k_m":
            wanted = Type.Q5_K if values < 2 else Type.Q4_K
        elif mixed and _gets_more_bits(values, model.values):
            wanted = Type.Q6_K
        if model.is_70b and wanted in (Type.Q3_K, Type.Q4_K):
            wanted = Type.Q5_K
        return Type.Q8_0 if model.experts == 8 else wanted
    if category == "key" and model.experts == 8:
        return Type.Q8_0
    if category == "ffn_down":
        if level == "q3_k_m":
            return Type.Q5_K if layer < model.layers // 16 else Type.Q4_K
        if mixed and _gets_more_bits(layer, model.layers):
            return Type.Q6_K
        return Type.Q3_K if level == "q2_k" else usual
    if category == "attn_output":
        if model.experts == 8:
            return Type.Q5_K if level in ("q2_k", "q3_k_m", "q4_k_m") else usual
        return {"q2_k": Type.Q3_K, "q3_k_m": Type.Q4_K}.get(level, usual)
    return usual


def _gets_more_bits(position: int, count: int) -> bool:
    """The first and the last eighth, and each third one between."""
    return position < count // 8 or position >= 7 * count // 8 or (position - count // 8) % 3 == 2


def _fitting(tensor: Tensor, wanted: Type) -> Type:
    """The wanted type, or what takes its place where the rows are no multiple of its block."""
    for one in (wanted, _FALLBACKS.get(wanted, Type.F16)):
        if tensor.shape[0] % BLOCKS[one][0] == 0:
            return one
    return Type.F16


def _quantizes(tensor: Tensor) -> bool:
    return _dimensions(tensor.shape) > 1 and tensor.name.endswith("weight") and not _KEPT.search(tensor.name)


def _dimensions(shape: Sequence[int]) -> int:
    """Those after the last that is longer than one do not count."""
    return max((number for number, length in enumerate(shape, 1) if length > 1), default=1)


def _order(tensor: Tensor) -> tuple[int, str]:
    """As llama.cpp goes through them: what belongs to no layer first, then layer by layer."""
    found = re.match(r"blk\.(\d+)\.", tensor.name)
    return (int(found[1]) if found else -1, tensor.name)


def size_at(file: GgufFile, level: str) -> int:
    """Bytes of all tensors at one of `LEVELS`, about: those that stay as they are count as 32-bit floats."""
    made, size = types(file, level), 0
    for tensor in file.tensors:
        numbers, each = BLOCKS.get(made[tensor.name], (1, 4))
        size += tensor.elements * each // numbers
    return size
