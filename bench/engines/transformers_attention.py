"""Attention kernels of transformers: what a case loads its model with and runs its requests under, and which it cannot have here."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from bench.engines.protocol import UnsupportedError
from results.cases import Case

IMPLEMENTATIONS = {
    "eager": "eager",
    "sdpa": "sdpa",
    "sdpa-flash": "sdpa",
    "sdpa-efficient": "sdpa",
    "sdpa-math": "sdpa",
    "flash-attention-2": "flash_attention_2",
}
KERNELS = {"sdpa-flash": "FLASH_ATTENTION", "sdpa-efficient": "EFFICIENT_ATTENTION", "sdpa-math": "MATH"}
"""Names of `torch.nn.attention.SDPBackend`; plain sdpa lets torch choose."""
OF_DEVICES = {"cpu": ("sdpa-flash", "sdpa-math"), "cuda": tuple(KERNELS), "mps": ("sdpa-math",)}
"""Kernels that torch has for a device."""
NO_KERNEL = ("No available kernel", "No viable backend")
"""How torch begins to say that none of the kernels that were allowed takes these tensors."""


def refusal(case: Case) -> str | None:
    name = case.attention
    if name is None:
        return None
    if name not in IMPLEMENTATIONS:
        return f"attention {name} is a word of llama.cpp: choose {', '.join(IMPLEMENTATIONS)} for transformers."
    able = OF_DEVICES[case.device]
    if name in KERNELS and name not in able:
        return f"torch has no kernel for attention {name} on {case.device}: choose sdpa, {', '.join(able)} or eager."
    if name == "flash-attention-2":
        if case.device != "cuda":
            return f"FlashAttention 2 runs on CUDA alone, not on {case.device}: choose sdpa or eager."
        if case.dtype == "fp32":
            return "FlashAttention 2 computes in 16 bits: choose dtype bf16 or fp16, or attention sdpa."
        if find_spec("flash_attn") is None:
            return "FlashAttention 2 needs a package that is not installed: pip install flash-attn, or choose attention sdpa."
    return None


def loading(case: Case) -> dict[str, Any]:
    """Arguments of `from_pretrained`, or of `from_config`, that choose the kernel."""
    return {"attn_implementation": IMPLEMENTATIONS[case.attention]} if case.attention else {}


@contextmanager
def kernel(case: Case) -> Iterator[None]:
    """Attention inside is computed by the case's kernel and no other.

    Raises:
        UnsupportedError: the kernel does not take the model's tensors or its mask.
    """
    if case.attention not in KERNELS:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        with sdpa_kernel(getattr(SDPBackend, KERNELS[case.attention])):
            yield
    except RuntimeError as error:
        if any(words in str(error) for words in NO_KERNEL):
            raise UnsupportedError(
                f"attention {case.attention} does not take this model's masks or shapes in {case.dtype}: choose sdpa or sdpa-math."
            ) from error
        raise
