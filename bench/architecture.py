"""A model's dimensions, read from its configuration: how many numbers its weights and its KV cache hold.

Which weights the decoder layers have stands in `bench.decoders`, those for images and sound in `bench.towers`, what a level makes
of them in `bench.level_sizes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.decoders import completed, layers, outside
from bench.dimensions import Layer, Linear, Part
from bench.level_sizes import NUMBER_BYTES, linear_bytes, part_bytes
from bench.towers import towers


@dataclass(frozen=True)
class Architecture:
    """What decides the memory of a causal language model; the text part of one that sees or hears."""

    vocabulary: int
    hidden: int
    tied: bool
    """Whether the embeddings of tokens are the output head too."""
    layers: tuple[Layer, ...]
    outside: Part
    """All other weights, but for embeddings of tokens and head; towers for images and sound included."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture | None":
        """From a configuration as in `config.json`; `None`: a kind of model whose dimensions are not understood."""
        try:
            return cls._read(config)
        except (TypeError, ValueError, AttributeError, LookupError, ZeroDivisionError):  # a file that somebody wrote by hand
            return None

    @classmethod
    def _read(cls, config: Mapping[str, Any]) -> "Architecture | None":
        given = dict(config.get("text_config", config))
        if "text_config" in config:
            given.setdefault("model_type", f"{config.get('model_type')}_text")
        text = completed(given)
        if text is None:
            return None
        more = towers(config, text["hidden_size"])
        if more is None:
            return None
        tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
        return cls(text["vocab_size"], text["hidden_size"], tied, layers(text), outside(text) + more)

    @property
    def parameters(self) -> int:
        """All numbers of its weights, tied embeddings once, vision and audio towers included."""
        return self._body.numbers + self._table.numbers * (1 if self.tied else 2)

    @property
    def linear_numbers(self) -> int:
        """Of the linear layers, but for the head."""
        return sum(linear.numbers for linear in self._body.linears)

    @property
    def _body(self) -> Part:
        return sum((layer.part for layer in self.layers), self.outside)

    @property
    def _table(self) -> Linear:
        """The embeddings of tokens, and of the same shape the head."""
        return Linear(self.vocabulary, self.hidden)

    def weights_bytes(self, quantization: str, dtype: str, *, quantized_head: bool = False) -> int:
        """Of the weights in floats, or at a level that is made in memory, which leaves embeddings, head, norms and experts in the type
        of computing.

        Args:
            quantized_head: whether the level takes the head too: out of tied embeddings it makes a head of its own.

        Raises:
            KeyError: another format, such as one of GGUF files.
        """
        tables = (self._table,) * (1 if self.tied else 2)
        if quantization in NUMBER_BYTES:
            return self.parameters * NUMBER_BYTES[quantization]
        number_bytes = NUMBER_BYTES[dtype]
        found = part_bytes(self._body, quantization, number_bytes) + number_bytes * sum(table.numbers for table in tables)
        if quantized_head:
            found += linear_bytes(self._table, quantization, number_bytes)
            found -= 0 if self.tied else self._table.numbers * number_bytes
        return round(found)

    def kv_cache_bytes(
        self, tokens: int, sequences: int, number_bytes: float, *, windowed_bytes: float | None = None, beyond: int = 0
    ) -> int:
        """Of a cache for so many sequences of so many tokens; layers with a sliding window keep no more than that.

        Args:
            number_bytes: of one number.
            windowed_bytes: of one number in layers with a sliding window; `None`: the same.
            beyond: tokens that such layers keep besides their window.
        """
        whole = sum(layer.cached for layer in self.layers if layer.window is None) * tokens * number_bytes
        windowed = sum(layer.cached * min(tokens, layer.window + beyond) for layer in self.layers if layer.window is not None)
        return round(sequences * (whole + windowed * (number_bytes if windowed_bytes is None else windowed_bytes)))

    def kv_bytes_of_all(self, tokens: int, sequences: int, number_bytes: float) -> int:
        """Of the keys and values of so many tokens in all layers that cache any, windows or not."""
        return round(sequences * tokens * number_bytes * sum(layer.cached for layer in self.layers))

    def token_numbers(self) -> int:
        """Numbers that the widest layer holds at a time for each token of a prompt: the states that go through, the inside of the
        MLP, queries with what attention makes of them, keys and values."""
        widths = (4 * layer.intermediate + 4 * layer.query + 2 * layer.cached for layer in self.layers)
        return max(widths, default=0) + 6 * self.hidden

    def lora_numbers(self, rank: int) -> int:
        """Trained numbers of low-rank adapters on the layers' attention and MLP."""
        return sum(rank * (one.outputs + one.inputs) * one.copies for layer in self.layers for one in layer.adapted)
