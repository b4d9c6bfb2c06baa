"""Levels of quantization on transformers: where each runs, what it means for the loader, and how the layers of a module take it.

How many bytes come of it is counted in `bench.engines.weights_bytes`.
"""

import importlib
import logging
from collections.abc import Callable
from typing import Any

from bench.engines.protocol import UnsupportedError
from bench.gguf_header import FORMATS
from bench.preparing import MissingDependencyError
from bench.quantizations import LEVELS
from results.cases import Case

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_ANY = tuple(DTYPES)
WHERE: dict[str, dict[str, tuple[str, ...]]] = {
    "int8": {"cpu": _ANY, "cuda": _ANY, "mps": _ANY},
    "nf4": {"cpu": _ANY, "cuda": _ANY, "mps": _ANY},
    "torchao-int8": {"cpu": _ANY, "cuda": _ANY, "mps": _ANY},
    "torchao-int8-dynamic": {"cpu": _ANY, "cuda": _ANY},
    "torchao-int4": {"cpu": _ANY, "cuda": ("bf16",)},
    "quanto-int8": {"cpu": _ANY, "cuda": _ANY, "mps": _ANY},
    "quanto-int4": {"cpu": ("bf16",), "cuda": ("bf16",)},
    "dynamic-int8": {"cpu": ("fp32",)},
}
"""The types of computing that work at each level, by device. In others than these quanto unpacks 4 bits with code that it has to
compile first, and not within inference mode."""

OUTLIERS_ABOVE = 6.0
GROUP = 128
"""Weights of a row that share a scale at the levels in `_BY_GROUPS`."""
_MADE_AFTERWARDS = ("dynamic-int8",)
_BY_GROUPS = ("torchao-int4", "quanto-int4")
_CAPABILITY = (8, 0)
"""What the kernel of these levels needs of a CUDA device."""
_MODULES = {"optimum-quanto": "optimum.quanto"}
"""Packages that are imported by another name."""


def refusal(case: Case) -> str | None:
    """Why transformers cannot run a case's quantization, with its type of computing, on its device."""
    level = case.quantization
    if level in DTYPES:
        return None if level == case.dtype else f"transformers computes {level} weights in {level}: give no other dtype."
    if case.source_precision not in (None, "gguf", *FORMATS):
        return (
            f"these weights come quantized, by {case.source_precision}: leave quantization out, or name the model's full weights."
        )
    dtypes = WHERE[level].get(case.device)
    if dtypes is None:
        others = ", ".join(other for other, devices in WHERE.items() if case.device in devices)
        return f"{level} does not run on {case.device}: choose {' or '.join(WHERE[level])}, or one of {others}."
    if case.dtype not in dtypes:
        return f"{level} computes in {' or '.join(dtypes)} on {case.device}: give that as dtype, or none."
    if case.device == "cuda" and level in _BY_GROUPS:
        import torch

        if torch.cuda.get_device_capability() < _CAPABILITY:
            return f"{level} needs a CUDA device of compute capability 8.0 or higher: choose nf4 or int8."
    return None


def loading(case: Case) -> dict[str, Any]:
    """Arguments of `from_pretrained` that load the weights at the case's level, in its type of computing, onto its device.

    Raises:
        MissingDependencyError: the package that makes the level is missing.
    """
    import torch

    arguments = {"dtype": getattr(torch, DTYPES[case.dtype]), "device_map": {"": case.device}}
    if case.quantization not in DTYPES and case.quantization not in _MADE_AFTERWARDS:
        arguments["quantization_config"] = _configuration(case, arguments["dtype"])
    return arguments


def finish(model: Any, case: Case) -> Any:
    """The loaded model at the case's level, if no loader makes it; all of its linear layers then, also the output head.

    Raises:
        UnsupportedError: the level can quantize no layer of this model.
    """
    if case.quantization in _MADE_AFTERWARDS:
        quantize_layer(model, case)
    if case.quantization in _BY_GROUPS and not _has_groups(model):
        raise UnsupportedError(
            f"{case.quantization} makes groups of {GROUP} weights, and no layer of this model is a multiple of that wide: "
            "choose another quantization."
        )
    return model


def quantize_layer(layer: Any, case: Case) -> None:
    """Replace the linear layers inside a module, whose weights are in the case's type of computing on its device, by such of the
    case's level, one at a time: so that a model built layer by layer is never whole in a larger format.

    Raises:
        MissingDependencyError: the package that makes the level is missing.
    """
    import torch

    if case.quantization in DTYPES:
        return
    quantized = _maker(case)
    for name in [name for name, module in layer.named_modules() if type(module) is torch.nn.Linear]:
        linear = layer.get_submodule(name)
        layer.set_submodule(name, quantized(linear).train(linear.training))


def _has_groups(model: Any) -> bool:
    import torch

    widths = [module.in_features for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return any(width % GROUP == 0 and width > GROUP for width in widths)


def _configuration(case: Case, dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig, QuantoConfig, TorchAoConfig

    _package(case)
    match case.quantization:
        case "int8":
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=OUTLIERS_ABOVE)
        case "nf4":
            return BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
            )
        case "quanto-int8" | "quanto-int4":
            return QuantoConfig(weights=case.quantization.removeprefix("quanto-"))
    return TorchAoConfig(_torchao_config(case))


def _maker(case: Case) -> Callable[[Any], Any]:
    """What makes a linear layer of the case's level out of one in floats, with the settings of `loading`."""
    package = _package(case)
    match case.quantization:
        case "int8":
            return lambda linear: _bitsandbytes_int8(package.nn, linear)
        case "nf4":
            return lambda linear: _bitsandbytes_nf4(package.nn, linear)
        case "quanto-int8" | "quanto-int4":
            weights = package.qtypes["q" + case.quantization.removeprefix("quanto-")]
            return lambda linear: _quanto(package, linear, weights)
        case "dynamic-int8":
            return _dynamic
    return lambda linear: _torchao(linear, _torchao_config(case))


def _package(case: Case) -> Any:
    """The package that makes the level, imported; `None` for torch itself."""
    name = LEVELS[case.quantization].package
    if name is None:
        return None
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns in every layer at every step, which takes time
    try:
        return importlib.import_module(_MODULES.get(name, name))
    except ImportError as error:
        raise MissingDependencyError(
            f'{case.quantization} needs {name} ({error}): pip install "gemmeter[transformers,quantization]"'
        ) from error


def _torchao_config(case: Case) -> Any:
    from torchao import quantization as torchao

    if case.quantization == "torchao-int8":
        return torchao.Int8WeightOnlyConfig()
    if case.quantization == "torchao-int8-dynamic":
        return torchao.Int8DynamicActivationInt8WeightConfig()
    if case.device == "cuda":
        return torchao.Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format="tile_packed_to_4d")
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig  # the only one that packs for a CPU

    return PrototypeInt4WeightOnlyConfig(group_size=GROUP)


def _bitsandbytes_int8(nn: Any, linear: Any) -> Any:
    made = nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        has_fp16_weights=False,
        threshold=OUTLIERS_ABOVE,
        device="meta",
    )
    # it quantizes on the way from the CPU to a device, which may be the CPU again
    made.weight = nn.Int8Params(linear.weight.data.cpu(), requires_grad=False).to(linear.weight.device)
    made.bias = linear.bias
    return made


def _bitsandbytes_nf4(nn: Any, linear: Any) -> Any:
    made = nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        linear.weight.dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    weight = nn.Params4bit(linear.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made)
    made.weight = weight.to(linear.weight.device)
    made.bias = linear.bias
    return made


def _torchao(linear: Any, config: Any) -> Any:
    from torchao.quantization import quantize_

    quantize_(linear, config, filter_fn=lambda *_: True)
    return linear


def _quanto(quanto: Any, linear: Any, weights: Any) -> Any:
    import torch

    made = quanto.QLinear.from_module(linear, weights=weights)
    made.freeze()
    made.weight.requires_grad = False
    made.input_scale, made.output_scale = torch.ones(()), torch.ones(())  # as the loader leaves them: nothing reads them here
    return made


def _dynamic(linear: Any) -> Any:
    """What `torch.ao.quantization.quantize_dynamic` makes of a linear layer."""
    from torch.ao.nn.quantized.dynamic import Linear
    from torch.ao.quantization import default_dynamic_qconfig

    linear.qconfig = default_dynamic_qconfig
    made = Linear.from_float(linear)  # type: ignore[no-untyped-call]
    made.has_bias = linear.bias is not None
    return made
