"""How many bytes a model's weights take, counted storage by storage: the packages' own footprint functions misreport."""

from collections.abc import Iterator
from typing import Any


def weights_bytes(model: Any) -> int:
    """Bytes of all distinct storages of parameters and buffers, with the scales and tables of quantized ones: tied weights count
    once. No weight is copied."""
    storages: dict[Any, int] = {}
    for module in model.modules():
        for tensor in _tensors(module):
            storage = tensor.untyped_storage()
            storages[tensor.device, storage.data_ptr()] = storage.nbytes()
    return sum(storages.values()) + sum(_packed_bytes(module) for module in model.modules())


def _tensors(module: Any) -> Iterator[Any]:
    for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        yield from _parts(tensor)
    state = getattr(module, "state", None)  # where 8-bit layers of bitsandbytes keep their scales after the first call
    yield from _present(state, "CB", "SCB")


def _parts(tensor: Any) -> Iterator[Any]:
    """The plain tensors that a tensor is made of."""
    if hasattr(tensor, "__tensor_flatten__"):  # torchao and quanto: tensors in a tensor, which has no storage of its own
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            if hasattr(part := getattr(tensor, name), "untyped_storage"):  # a sharded one has a mesh of devices too
                yield from _parts(part)
        return
    yield tensor
    yield from _present(tensor, "CB", "SCB")
    state = getattr(tensor, "quant_state", None)
    while state is not None:  # 4-bit weights of bitsandbytes: scales by block, which may have scales in their turn
        yield from _present(state, "absmax", "code", "offset")
        state = getattr(state, "state2", None)


def _present(holder: Any, *names: str) -> Iterator[Any]:
    for name in names:
        if (tensor := getattr(holder, name, None)) is not None:
            yield tensor


def _packed_bytes(module: Any) -> int:
    """Of the weights that torch's dynamically quantized layers hold where no tensor reaches: 8 bits each, one scale and zero point
    of 4 bytes each for all, and the bias in 32-bit floats."""
    from torch.ao.nn.quantized.dynamic import Linear

    if not isinstance(module, Linear):
        return 0
    return int(module.in_features * module.out_features + 8 + 4 * module.out_features * getattr(module, "has_bias", False))
