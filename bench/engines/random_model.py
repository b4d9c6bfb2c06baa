"""A model of transformers with random weights, built in place: no other format of the whole and no second copy is ever made.

What the numbers are for, and which dimensions a model has, is left to `bench.random_weights`.
"""

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from bench.engines import quantized, transformers_attention
from bench.engines.freed_memory import give_back
from bench.engines.protocol import UnsupportedError
from bench.preparing import MissingDependencyError
from bench.quantizations import FLOATS
from results.cases import Case

SEED = 0
SPREAD = 0.02
"""Standard deviation of the weights where the configuration gives none, as transformers has it."""
BLOCK = 1_000_003
"""Numbers that are drawn; all weights repeat them, as drawing billions would take minutes. As a prime it shares no factor with the
length of a row, so that a matrix has no row twice in a million."""


def build(architecture: Mapping[str, Any], case: Case) -> Any:
    """A model for text generation on the case's device, in evaluation mode, its weights drawn from one seed.

    Its matrices are drawn. Whatever else a model computes with (norms, biases, rotary frequencies, scales) has the value that a
    new model of transformers has. Linear layers are brought to the case's level one by one; the head only where a loaded one is.

    Args:
        architecture: the configuration as in `config.json`, with `model_type`.

    Raises:
        UnsupportedError: transformers builds no language model from it.
        MissingDependencyError: a package that the architecture or the level needs is missing.
        ValueError: the model has not the attention that the case asks for.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    config, dtype = _configuration(architecture), getattr(torch, quantized.DTYPES[case.dtype])
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, **transformers_attention.loading(case))
    except ImportError as error:
        raise MissingDependencyError(" ".join(str(error).split())) from error
    noise = _Noise(getattr(config.get_text_config(), "initializer_range", None) or SPREAD)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for tensor in [*model.buffers(), *(one for one in model.parameters() if not _is_matrix(one))]:
            _materialise(tensor, case.device)
        model.initialize_weights()  # of what has memory by now: it leaves the matrices, which have none, alone
        _draw(model, model.get_output_embeddings(), noise, case)
    model.generation_config = GenerationConfig()  # no token ends a text: none means anything
    return quantized.finish(model, case).eval()


def _configuration(architecture: Mapping[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    name = architecture["model_type"]
    try:
        config = AutoConfig.for_model(**architecture)
    except (ValueError, StrictDataclassError) as error:
        raise UnsupportedError(
            f"transformers makes no {name} of this configuration ({' '.join(str(error).split())[:200]}): "
            "correct it, or install a newer transformers."
        ) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UnsupportedError(f"{name} is no causal language model of transformers: choose another model.")
    return config


def _is_matrix(parameter: Any) -> bool:
    return bool(parameter.ndim > 1)


def _materialise(tensor: Any, device: str) -> None:
    """Give a tensor memory in place, so that tied weights stay one."""
    import torch

    empty = torch.empty_like(tensor, device=device)
    twin = torch.nn.Parameter(empty) if isinstance(tensor, torch.nn.Parameter) else empty
    torch.utils.swap_tensors(tensor, twin)  # type: ignore[no-untyped-call]


def _draw(module: Any, head: Any, noise: "_Noise", case: Case) -> None:
    """Give the matrices of a module and of all inside it memory and numbers, each linear layer but the head at the case's level
    before the next one is drawn."""
    for name in [name for name, _ in module.named_children()]:
        _draw(module.get_submodule(name), head, noise, case)
        if case.quantization not in FLOATS:
            _to_level(module, name, head, case)
    for parameter in module.parameters(recurse=False):
        if parameter.is_meta:
            _materialise(parameter, case.device)
            noise.fill(parameter)


def _to_level(parent: Any, name: str, head: Any, case: Case) -> None:
    from torch.nn import Linear, Sequential

    layer = Sequential(parent.get_submodule(name))
    if isinstance(layer[0], Linear) and layer[0] is not head:
        quantized.quantize_layer(layer, case)
        setattr(parent, name, layer[0])
        give_back()


class _Noise:
    """Numbers like those of trained weights: normal around zero, so that no row is constant and hardly any number is too small to be
    held in full, which would slow a CPU down."""

    def __init__(self, spread: float) -> None:
        import torch

        self._block = torch.empty(BLOCK).normal_(std=spread, generator=torch.Generator().manual_seed(SEED))
        self._at = 0

    def fill(self, tensor: Any) -> None:
        """Begins where the tensor before ended, so that no two are alike."""
        flat = tensor.view(-1)
        done = min(BLOCK, len(flat))
        flat[:done] = self._block.roll(-self._at)[:done]
        while done < len(flat):  # in few large copies: a thread that has to wait for a core delays each of them
            more = min(done, len(flat) - done)
            flat[done : done + more] = flat[:more]
            done += more
        self._at = (self._at + len(flat)) % BLOCK


class StandInTokenizer:
    """Turns text into ids of a vocabulary that it does not know: with random weights nothing means anything.

    As many tokens as a real one makes of English, more or less. A decoded text encodes to as many tokens again.
    """

    chat_template: None = None
    pad_token_id = 0
    eos_token_id: None = None

    def __init__(self, vocabulary: int) -> None:
        """
        Args:
            vocabulary: its size.
        """
        self._first, self._size = vocabulary // 4, vocabulary // 2  # special tokens lie at the beginning and at the end

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[self._id(piece) for piece in re.findall(r"<\d{1,9}>|\w{1,4}|[^\w\s]", text)])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(f"<{int(one)}>" for one in ids)

    def _id(self, piece: str) -> int:
        if len(piece) > 2 and piece[0] == "<" and self._first <= (known := int(piece[1:-1])) < self._first + self._size:
            return known
        value = 0
        for letter in piece:  # to a base above ten, so that different numbers become different ids
            value = 11 * value + ord(letter)
        return self._first + value % self._size
