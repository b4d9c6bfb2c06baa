"""The prompts of a whole load, made before it starts: exact lengths by the model's tokenizer, real text, unique beginnings.

A prompt's ids are what its text encodes to, so that its length is exact whichever of the two a server is sent. Prompts of
traces with block ids are made of ids. Tokenizing may be a call to a server: it is asked about once per prompt.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

from bench.trace import BLOCK_TOKENS, TraceEntry
from bench.workloads import Decode, Encode, Prompt, Prompts
from results.errors import UsageError
from results.records import PromptFormat

ATTEMPTS = 12
"""At one length: where a text is cut, its last word may come out as more or fewer tokens."""
SPREAD = 10
"""Prompts among which the share that has the common prefix is kept."""


def load_prompts_for(
    prompts: Prompts, count: int, *, mark: str, tokens: int | None, form: PromptFormat, encode: Encode, decode: Decode,
    shared_prefix_tokens: int | None = None, prefix_hit_rate: float | None = None, seed: int = 0, first: int = 0,
) -> list[Prompt]:  # fmt: skip
    """So many prompts, in the order in which they are to be sent; a `chat` prompt's text is the message inside the template.

    Args:
        mark: what tells the case and the process from others.
        tokens: exact length of each, special tokens and template included; `None`: the texts' own lengths.
        shared_prefix_tokens: how many tokens some begin with in common; the first of them finds no cache.
        prefix_hit_rate: the share of these, 0 to 1.
        seed: of which ones they are.
        first: number of the first prompt, so that later calls make others.

    Raises:
        UsageError: a length cannot be met, for example because the chat template alone is longer.
    """
    writer = _Writer(prompts, mark, form, encode, decode)
    sharing = _sharing(count, prefix_hit_rate or 0.0 if shared_prefix_tokens else 0.0, seed)
    prefix = writer.shared_prefix(shared_prefix_tokens) if shared_prefix_tokens and any(sharing) else ""
    made = [writer.prompt(first + number, tokens, prefix if shares else "") for number, shares in enumerate(sharing)]
    if len({prompt.text for prompt in made}) < count:
        raise UsageError(f"prompt_tokens: {count} prompts of {tokens} tokens cannot all differ: choose a larger length.")
    return made


def trace_prompts(entries: Iterable[TraceEntry], prompts: Prompts, *, mark: str, encode: Encode, decode: Decode) -> list[Prompt]:
    """A plain prompt of each entry's exact length. Blocks with equal ids are equal tokens; all others, and the rest, are unique.

    The first block holds the special tokens that the model expects at the beginning.
    """
    writer = _Writer(prompts, mark, "plain", encode, decode)
    made = []
    for number, entry in enumerate(entries):
        if entry.blocks:
            ids = writer.blocks(entry, number)
            made.append(Prompt(number % len(prompts.prompts), decode(ids), ids))
        else:
            made.append(writer.prompt(number, entry.prompt_tokens))
    return made


def _sharing(count: int, rate: float, seed: int) -> list[bool]:
    """Which prompts have the common prefix: the exact share of every ten in a row, in random places."""
    generator = random.Random(seed)  # noqa: S311 an order, not a secret
    chosen: set[int] = set()
    for begin in range(0, count, SPREAD):
        end = min(begin + SPREAD, count)
        chosen.update(generator.sample(range(begin, end), round(rate * end) - round(rate * begin)))
    return [number in chosen for number in range(count)]


class _Writer:
    """Writes prompts for one tokenizer, whose answers it remembers."""

    def __init__(self, prompts: Prompts, mark: str, form: PromptFormat, encode: Encode, decode: Decode) -> None:
        self._texts, self._mark, self._form = prompts.prompts, mark, form
        self._encode, self._decode = encode, decode
        self._bodies: dict[int, Sequence[int]] = {}
        self._beginnings: dict[tuple[int, int], str] = {}
        self._extra: dict[int, int] = {}
        self._blocks: dict[int, tuple[int, ...]] = {}

    def prompt(self, number: int, tokens: int | None, prefix: str = "") -> Prompt:
        index = number % len(self._texts)
        before = f"{prefix}{number + 1}.{self._mark} "
        if tokens is not None:
            return Prompt(index, *self._fit(index, before, tokens, may_cut=not prefix), self._form)
        text = before + self._texts[index]
        return Prompt(index, text, tuple(self._encode(text, self._form)), self._form)

    def shared_prefix(self, tokens: int) -> str:
        """A text whose continuations have exactly so many first tokens in common, those of the template included."""

        def written(kept: int) -> str:
            return f"Shared {self._mark}. {self._beginning(0, kept)} No. "

        def common(kept: int) -> int:
            pair = zip(*(self._encode(written(kept) + end, self._form) for end in "12"), strict=False)
            return sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], pair))

        kept = _search(common, tokens, guess=tokens)
        if kept is None:
            raise UsageError(f"shared_prefix_tokens: no beginning of {tokens} tokens can be made: choose at least {common(0)}.")
        return written(kept)

    def blocks(self, entry: TraceEntry, number: int) -> tuple[int, ...]:
        """The ids of a prompt that begins with the entry's blocks."""
        ids = self._specials()
        for position, block in enumerate(entry.blocks, 1):
            if block not in self._blocks:
                self._blocks[block] = self._inner(block, f" Part {block}.{self._mark} ", BLOCK_TOKENS)
            ids += self._blocks[block][: min(position * BLOCK_TOKENS, entry.prompt_tokens) - len(ids)]
        rest = entry.prompt_tokens - len(ids)
        return ids + self._inner(number, f" {number + 1}.{self._mark} ", rest) if rest else ids
