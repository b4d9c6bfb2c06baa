"""What transformers loads for a case: its weights or random ones, at its level, with its adapter and attention kernel."""

import importlib.util
from pathlib import Path
from typing import Any

from bench.engines import quantized, random_model, transformers_attention, transformers_parallel
from bench.engines.protocol import Source, UnsupportedError
from bench.preparing import MissingDependencyError
from results.cases import Case
from results.errors import UsageError


def load(source: Source, case: Case) -> tuple[Any, Any]:
    """(model, tokenizer).

    Raises:
        UsageError: there is nothing to load.
        MissingDependencyError: the package that makes the case's quantization is missing.
        UnsupportedError: the level can quantize no layer of this model.
    """
    import transformers

    if source.architecture is not None:
        model = random_model.build(source.architecture, case)
        return model, random_model.StandInTokenizer(model.config.get_text_config().vocab_size)
    if source.weights is None:
        raise UsageError("The engine transformers needs the weights in a folder: name one as model.")
    arguments = quantized.loading(case) | transformers_attention.loading(case) | transformers_parallel.loading(case)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.weights, local_files_only=True, trust_remote_code=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.weights, local_files_only=True, trust_remote_code=False, use_safetensors=True, **arguments
    )
    model = quantized.finish(model, case)
    if source.adapter is not None:
        with_adapter(model, source.adapter)
    return model.eval(), tokenizer


def with_adapter(model: Any, folder: Path) -> None:
    """Put a LoRA adapter beside the model's weights, in place and not merged: as an adapter is used where several are served.

    Raises:
        MissingDependencyError: PEFT is missing.
        UnsupportedError: it is an adapter of another model.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingDependencyError('an adapter needs PEFT: pip install "gemmeter[finetune]"')
    try:
        model.load_adapter(str(folder), use_safetensors=True)
    except (ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise UnsupportedError(f"the adapter does not fit the model ({why}): name the model that it was trained on.") from error
