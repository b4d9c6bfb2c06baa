"""llama.cpp behind a KV cache that is filled already: an untimed request fills the slot, and the timed one goes on from there."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, Literal

from bench.engines.protocol import Clock, Generation, UnsupportedError
from bench.engines.served import HttpSession
from bench.workloads import Prompt
from results.cases import Case

FILL: dict[str, Any] = {"cache_prompt": False, "id_slot": 0, "max_tokens": 0, "ignore_eos": True}
"""Fields of a request that leaves its prompt, and no more, in the slot."""
GO_ON: dict[str, Any] = {"cache_prompt": True, "id_slot": 0}


def filling(prompt: Prompt, depth: int) -> Prompt:
    """So many tokens to come before a prompt: its own, over and over."""
    return replace(prompt, token_ids=tuple(islice(cycle(prompt.token_ids), depth)))


def behind(prompt: Prompt, before: Prompt) -> Prompt:
    return replace(prompt, token_ids=before.token_ids + tuple(prompt.token_ids))


def without(generation: Generation, depth: int) -> Generation:
    """The generation with the prompt alone as its prompt.

    Raises:
        UnsupportedError: by the server's own count it evaluated more than the prompt, or less.
    """
    cached = generation.values.get("cached_prompt_tokens", 0.0)
    if cached != depth:
        raise UnsupportedError(
            f"llama.cpp kept {cached:.0f} of the {depth} tokens that filled its KV cache; for a model with a sliding window it keeps "
            "them only where they are more than the window: set depth to more, or to 0."
        )
    values = generation.values | {"cached_prompt_tokens": 0.0}
    return replace(generation, prompt_tokens=(generation.prompt_tokens or 0) - depth, values=values)


class DeepSession(HttpSession):
    """With a llama.cpp server of ours, one request at a time."""

    _depth = 0

    def begin(self, case: Case) -> None:
        super().begin(case)
        self._depth = case.depth

    def generate(self, prompt: Prompt, output_tokens: int, stop: Literal["length", "eos"], clock: Clock) -> Generation:
        """
        Raises:
            UnsupportedError: the server did not go on behind what filled its KV cache.
        """
        if not self._depth:
            return super().generate(prompt, output_tokens, stop, clock)
        before = filling(prompt, self._depth)
        self.ask(before, _with(self.body(before, 1, "length"), FILL), clock)
        whole = behind(prompt, before)
        generation = self.ask(whole, _with(self.body(whole, output_tokens, stop), GO_ON), clock)
        return generation if generation.error else without(generation, self._depth)


def _with(body: bytes, fields: Mapping[str, Any]) -> bytes:
    return json.dumps(json.loads(body) | fields).encode()
