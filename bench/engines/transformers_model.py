"""What transformers loads for a case: its weights or random ones, at its level, with its adapter and attention kernel."""

from typing import Any

from bench.engines import quantized, random_model
from bench.engines.protocol import Source
from results.cases import Case
from results.errors import UsageError


def load(source: Source, case: Case) -> tuple[Any, Any]:
    """(model, tokenizer).

    Raises:
        UsageError: there is nothing to load.
        ImportError: a package that the case needs is missing.
    """
    import transformers

    if source.architecture is not None:
        model = random_model.build(source.architecture, case)
        return model, random_model.StandInTokenizer()
    if source.weights is None:
        raise UsageError("The engine transformers needs the weights in a folder: name one as model.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.weights, local_files_only=True, trust_remote_code=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.weights,
        device_map=None if case.device == "cpu" else case.device,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        **quantized.loading(case),
    )
    return quantized.finish(model, case).eval(), tokenizer
