"""What the requests of one case are made of, on transformers: padded ids, settings, a KV cache, which may be filled before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from bench.context import context_of
from bench.engines import transformers_caches, transformers_compile
from bench.workloads import Prompt
from results.cases import Case

BEFORE = "It was a bright cold day in spring, and the boats lay still along the river while people came and went on the bridge. "
"""What a KV cache is filled with, over and over, where a case wants it filled."""
MIXING = 1_000_003
"""A prime, so that seeds beside each other and requests after each other draw different tokens."""


@dataclass(frozen=True)
class Ready:
    """A request, or a batch of them, with all done that is done before it is sent."""

    rows: list[list[int]]
    """Token ids, padded on the left; what the cache holds already is among them."""
    arguments: dict[str, Any]
    """Of `generate`, beside the ids."""
    cache: Any
    """`None`: the model makes its own, or there is none."""


class CaseRequests:
    def __init__(self, model: Any, case: Case, encode: Callable[[str], Sequence[int]], pad: int, eos: Sequence[int]) -> None:
        self._model, self._case, self._pad, self._eos = model, case, pad, eos
        exact = case.depth + case.prompt_tokens + case.output_tokens if case.prompt_tokens else 0
        self._room = exact or context_of(case)
        self._before = _repeated(encode, case.depth)
        self._kept: tuple[Any, int, int] | None = None
        """A static cache, its sequences and its tokens."""
        self._asked = 0
        self.compiled = False
        """Whether decode steps run compiled, as the case may want."""

    def restart(self) -> None:
        """The next request draws as the first one."""
        self._asked = 0

    def ready(self, prompts: Sequence[Prompt], output_tokens: int, stop: Literal["length", "eos"]) -> Ready:
        """Inside of `torch.inference_mode`."""
        import torch

        depth, device = len(self._before), self._model.device
        longest = max(len(prompt.token_ids) for prompt in prompts)
        pads = [longest - len(prompt.token_ids) for prompt in prompts]
        rows = [[self._pad] * pad + [*self._before, *one.token_ids] for pad, one in zip(pads, prompts, strict=True)]
        mask = torch.tensor([[0] * pad + [1] * (depth + longest - pad) for pad in pads], device=device)
        cache = self._cache(len(rows), depth + longest + output_tokens)
        if depth:
            earlier = torch.tensor([row[:depth] for row in rows], device=device)
            transformers_caches.fill(self._model, cache, earlier, mask[:, :depth], self._pad)
        if self._case.sampling:
            torch.manual_seed(self._case.sampling.seed * MIXING + self._asked)
        self._asked += 1
        arguments = {"attention_mask": mask, "generation_config": self._config(output_tokens, stop)}
        return Ready(rows, arguments if cache is None else arguments | {"past_key_values": cache}, cache)

    def _config(self, output_tokens: int, stop: Literal["length", "eos"]) -> Any:
        from transformers import GenerationConfig

        case, sampling = self._case, self._case.sampling
        drawn = {} if sampling is None else {
            "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0,
            "repetition_penalty": sampling.repetition_penalty,
        }  # fmt: skip
        compiled = {"compile_config": transformers_compile.config_of(case)} if self.compiled else {"disable_compile": True}
        return GenerationConfig(
            max_new_tokens=output_tokens,
            do_sample=sampling is not None,
            eos_token_id=list(self._eos) if stop == "eos" and self._eos else None,
            pad_token_id=self._pad,
            use_cache=case.kv_cache != "off",
            **drawn,
            **compiled,
        )

    def _cache(self, sequences: int, tokens: int) -> Any:
        """A cache with nothing in it: a new one, or the static one of the requests before, if it has the size."""
        if self._kept and self._kept[1] == sequences and self._kept[2] >= tokens:
            self._kept[0].reset()
            return self._kept[0]
        tokens = max(tokens, self._room)
        cache = transformers_caches.make(self._model, self._case, tokens)
        if transformers_caches.is_static(self._case):
            self._kept = (cache, sequences, tokens)
        return cache


def _repeated(encode: Callable[[str], Sequence[int]], tokens: int) -> tuple[int, ...]:
    """So many tokens of a text that begins anew until it is long enough."""
    times = 1
    while tokens and len(ids := encode(BEFORE * times)) < tokens:
        times *= 2
    return tuple(islice(ids, tokens)) if tokens else ()
