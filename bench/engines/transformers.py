"""Hugging Face Transformers in process, on CPU, CUDA and Apple GPUs: what it can do, and its refusals."""

import bench.quantizations
from bench.engines import (
    quantized,
    transformers_attention,
    transformers_caches,
    transformers_compile,
    transformers_draft,
    transformers_parallel,
)
from bench.engines.freed_memory import give_back
from bench.engines.protocol import Source, Support, UnsupportedError
from bench.engines.transformers_draft import Draft
from bench.engines.transformers_session import TransformersSession
from results.cases import Case

REFUSALS = (
    quantized.refusal, transformers_attention.refusal, transformers_caches.refusal, transformers_compile.refusal,
    transformers_draft.refusal, transformers_parallel.refusal,
)  # fmt: skip
"""Why a case cannot run here, by what it is about; the first that has something to say is heard."""


class Transformers:
    support = Support(
        weights="folder",
        packages=("torch", "transformers", "accelerate"),
        extra="transformers",
        devices=("cpu", "cuda", "mps"),
        quantizations=(*quantized.DTYPES, *bench.quantizations.LEVELS),
        switches=frozenset(
            {
                "batch", "depth", "sampling", "training", "draft", "attention", "compile_mode", "kv_cache", "kv_dtype", "adapter",
                "tensor_parallel",
            }
        ),
        random_weights=True,
    )  # fmt: skip

    def __init__(self) -> None:
        import torch
        import transformers
        import transformers.modeling_utils
        import transformers.models.auto.modeling_auto
        import transformers.models.auto.tokenization_auto

        self._torch, self._transformers = torch, transformers

    def refuse(self, case: Case) -> str | None:
        if case.device == "cuda" and not self._torch.cuda.is_available():
            return "this torch sees no CUDA device: install a CUDA build of torch, or choose device cpu."
        if case.device == "mps" and not self._torch.backends.mps.is_available():
            return "this torch sees no Apple GPU: choose device cpu, or run on a Mac with Apple silicon."
        return next((why for refusal in REFUSALS if (why := refusal(case))), None)

    def load(self, source: Source, case: Case) -> TransformersSession:
        """
        Raises:
            UnsupportedError: the model has not the attention that the case asks for, or the draft has other tokens.
        """
        from bench.engines.transformers_model import load

        self._transformers.utils.logging.disable_progress_bar()
        if case.threads is not None:
            self._torch.set_num_threads(case.threads)
        try:
            if case.tensor_parallel > 1:
                return transformers_parallel.ParallelSession(source, case)
            model, tokenizer = load(source, case)
        except ValueError as error:
            if case.attention and "attention implementation" in str(error):
                raise UnsupportedError(f"transformers has no attention {case.attention} for this model: choose eager.") from error
            raise
        vocabulary = model.config.get_text_config().vocab_size
        draft = Draft(source.draft, case, tokenizer, vocabulary) if source.draft else None
        give_back()  # what loading and quantizing freed: hundreds of MiB for some levels
        return TransformersSession(model, tokenizer, case, draft)
