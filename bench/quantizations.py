"""The levels of quantization that suites name, the tutorial's optimization levels, and the packages that levels and switches need.

What an engine makes of a level is left to it.
"""

from dataclasses import dataclass

from bench.gguf_header import FORMATS
from results.cases import Case


@dataclass(frozen=True)
class Level:
    """A format of weights in memory that is made when the model is loaded."""

    method: str
    """What makes it, for people."""
    package: str | None = None
    """The distribution that makes it, beside torch."""
    dtype: str = "bf16"
    """The type of computing unless a suite gives another."""


FLOATS = ("fp32", "bf16", "fp16")
"""Formats that need no quantizing; each computes in its own type unless a suite gives another."""

LEVELS = {
    "int8": Level("bitsandbytes LLM.int8(): 8 bits by row, outliers above 6.0 in 16 bits", "bitsandbytes"),
    "nf4": Level("bitsandbytes NF4: 4-bit normal floats by blocks of 64, scales quantized again", "bitsandbytes"),
    "torchao-int8": Level("torchao, weights only: 8 bits by row", "torchao"),
    "torchao-int8-dynamic": Level("torchao: 8 bits by row, activations quantized to 8 bits as they come", "torchao"),
    "torchao-int4": Level("torchao, weights only: 4 bits by groups of 128", "torchao"),
    "quanto-int8": Level("optimum-quanto, weights only: 8 bits by row", "optimum-quanto"),
    "quanto-int4": Level("optimum-quanto, weights only: 4 bits by groups of 128", "optimum-quanto"),
    "dynamic-int8": Level("torch's own: 8 bits by tensor, activations quantized to 8 bits as they come", None, "fp32"),
}
"""Levels that are made in memory, from weights in 16 or 32 bit floats; those of GGUF files are `FORMATS`."""

NAMES = tuple(dict.fromkeys((*FLOATS, *LEVELS, *FORMATS)))

OPTIMIZATIONS = {
    "maximum_efficiency": {"quantization": "nf4", "dtype": "bf16"},
    "balanced": {"quantization": "int8", "dtype": "bf16"},
    "performance": {"quantization": "bf16", "dtype": "bf16"},
}
"""The optimization levels of the Gemma tutorial: NF4 with double quantization computing in bf16, 8 bits with outliers above 6.0,
and full weights in bf16."""


def dtype_of(quantization: str) -> str:
    """The type of computing that goes with weights of this format unless a suite gives another."""
    return quantization if quantization in FLOATS else LEVELS[quantization].dtype if quantization in LEVELS else "fp32"


SWITCH_PACKAGES: dict[tuple[str, str], tuple[str, ...]] = {
    ("attention", "flash-attention-2"): ("flash-attn",),
    ("kv_dtype", "int4"): ("optimum-quanto",),
    ("kv_dtype", "int2"): ("optimum-quanto",),
}
"""Distributions that a value of a case's field needs."""
TRAINING_PACKAGES = ("peft", "trl", "datasets")
ADAPTER_PACKAGES = ("peft",)


def packages_of(case: Case) -> tuple[str, ...]:
    """Distributions beside its engine's whose versions a case's figures depend on."""
    made = LEVELS[case.quantization].package if case.quantization in LEVELS else None
    switched = (names for (field, value), names in SWITCH_PACKAGES.items() if getattr(case, field) == value)
    return (
        *((made,) if made else ()),
        *(name for names in switched for name in names),
        *(TRAINING_PACKAGES if case.training else ADAPTER_PACKAGES if case.adapter else ()),
    )
