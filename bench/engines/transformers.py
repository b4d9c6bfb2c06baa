"""Hugging Face Transformers in process, on CPU and CUDA: what it can do, and its refusals."""

from bench.engines import quantized
from bench.engines.protocol import Source, Support
from bench.engines.transformers_session import TransformersSession
from results.cases import Case


class Transformers:
    support = Support(
        weights="folder",
        packages=("torch", "transformers", "accelerate"),
        extra="transformers",
        devices=("cpu", "cuda"),
        quantizations=tuple(quantized.DTYPES),
    )

    def __init__(self) -> None:
        import torch
        import transformers
        import transformers.models.auto.modeling_auto
        import transformers.models.auto.tokenization_auto

        self._torch, self._transformers = torch, transformers

    def refuse(self, case: Case) -> str | None:
        if case.device == "cuda" and not self._torch.cuda.is_available():
            return "this torch sees no CUDA device: install a CUDA build of torch, or choose device cpu."
        return quantized.refusal(case)

    def load(self, source: Source, case: Case) -> TransformersSession:
        from bench.engines.transformers_model import load

        self._transformers.utils.logging.disable_progress_bar()
        if case.threads is not None:
            self._torch.set_num_threads(case.threads)
        model, tokenizer = load(source, case)
        return TransformersSession(model, tokenizer)
