"""Levels of quantization on transformers: what each means for its loader, for one layer, and in bytes."""

from typing import Any

from results.cases import Case

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def refusal(case: Case) -> str | None:
    """Why transformers cannot run a case's quantization, with its type of computing, on its device."""
    if case.quantization != case.dtype:
        return f"transformers computes {case.quantization} weights in {case.quantization}: give no other dtype."
    return None


def loading(case: Case) -> dict[str, Any]:
    """Arguments of `from_pretrained` that load the weights at the case's level, in its type of computing.

    Raises:
        ImportError: the package that makes the level is missing.
    """
    import torch

    return {"dtype": getattr(torch, DTYPES[case.dtype])}


def finish(model: Any, case: Case) -> Any:
    """The loaded model at the case's level: those levels that no loader makes are made here."""
    return model


def quantize_layer(layer: Any, case: Case) -> None:
    """Replace the linear layers inside a module, whose weights are in the case's type of computing, by such of the case's level,
    one at a time: so that a model built layer by layer is never whole in a larger format."""
    raise NotImplementedError


def weights_bytes(model: Any) -> int:
    """Bytes of all distinct storages of parameters and buffers: tied weights count once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in [*model.parameters(), *model.buffers()]
    }
    return sum(storages.values())
