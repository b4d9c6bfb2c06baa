"""A model's dimensions, read from its configuration: how many numbers its weights and its KV cache hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """What decides the memory of a causal language model; the text part of one that sees or hears."""

    parameters: int
    """All numbers of its weights, tied embeddings once, vision and audio towers included where they are loaded."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture | None":
        """From a configuration as in `config.json`; `None`: a kind of model whose dimensions are not understood."""
        raise NotImplementedError

    def weights_bytes(self, quantization: str, dtype: str) -> int:
        """Of the weights in this format, embeddings and norms left in the type of computing where the format leaves them."""
        raise NotImplementedError

    def kv_cache_bytes(self, tokens: int, sequences: int, bytes_per_number: float) -> int:
        """Of a cache for so many sequences of so many tokens; layers with a sliding window keep no more than that."""
        raise NotImplementedError
