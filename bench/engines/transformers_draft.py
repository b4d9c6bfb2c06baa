"""Speculative decoding of transformers: the smaller model that drafts tokens, and how many of them were worth it."""

from pathlib import Path
from typing import Any

from bench.engines import transformers_caches
from bench.engines.protocol import Source, UnsupportedError
from results.cases import Case


def refusal(case: Case) -> str | None:
    if not case.draft:
        return None
    if case.draft.startswith("random:"):
        return "a model with random weights drafts nothing that is accepted: leave draft out with `weights: random`."
    if case.batch > 1:
        return "transformers drafts for one sequence at a time: set batch to 1, or leave draft out."
    if case.depth:
        return "transformers drafts from an empty KV cache only: set depth to 0 and lengthen the prompt, or leave draft out."
    if case.kv_cache not in (None, "dynamic"):
        return f"speculative decoding takes tokens back, which a KV cache {case.kv_cache} cannot: leave kv_cache or draft out."
    return None


class Draft:
    """The model that drafts, in the type of computing of the one that it drafts for."""

    def __init__(self, folder: Path, case: Case, tokenizer: Any, vocabulary: int) -> None:
        """
        Args:
            tokenizer: that of the model that it drafts for.
            vocabulary: rows of that model's embedding, which may be more than there are tokens.

        Raises:
            UnsupportedError: their tokens differ.
        """
        from bench.engines.transformers_model import load

        plain = case.model_copy(update={"quantization": case.dtype, "adapter": None})
        self.model, mine = load(Source(folder), plain)
        ours, theirs = mine.get_vocab().items(), tokenizer.get_vocab().items()
        if not (ours <= theirs or theirs <= ours):
            raise UnsupportedError("the draft has other tokens than the model: choose a smaller model of the same family.")
        config = self.model.config.get_text_config()
        if config.vocab_size != vocabulary:
            config.vocab_size = vocabulary  # else transformers takes the tokens for different ones
            self.model.register_forward_hook(lambda module, arguments, output: _fitted(output, vocabulary))
        settings = self.model.generation_config
        settings.num_assistant_tokens, settings.num_assistant_tokens_schedule = case.draft_tokens, "constant"
        settings.assistant_confidence_threshold = 0.0  # it would draft fewer where it is unsure
        settings.eos_token_id = None
        self.drafted = 0
        self.model.register_forward_pre_hook(self._count)
        self._cache: Any = None
        self.model.register_forward_hook(self._keep)

    def _count(self, *_: Any) -> None:
        self.drafted += 1  # one token comes of each time that it is run

    def _keep(self, module: Any, arguments: Any, output: Any) -> None:
        self._cache = output.past_key_values

    def cache_bytes(self) -> int:
        """Of the KV cache that its last request left, which is let go."""
        cache, self._cache = self._cache, None
        return transformers_caches.cache_bytes(cache) if cache is not None else 0

    def accepted_share(self, tokens: list[int]) -> dict[str, float]:
        """Of the request that ends now; each of its steps added what was accepted and one token of the model's own."""
        drafted, self.drafted = self.drafted, 0
        return {"accepted_draft_share": sum(added - 1 for added in tokens) / drafted} if drafted else {}


def _fitted(output: Any, vocabulary: int) -> Any:
    """The output with as many logits; those that a smaller draft has not are never chosen."""
    from torch.nn.functional import pad

    output.logits = pad(output.logits, (0, vocabulary - output.logits.shape[-1]), value=float("-inf"))
    return output
