"""The prompts of a whole load, made before it starts: exact lengths by the model's tokenizer, real text, unique beginnings.

A prompt's ids are what its text encodes to, so that its length is exact whichever of the two a server is sent. Prompts of
traces with block ids are made of ids. Tokenizing may be a call to a server: it is asked about once per prompt.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import takewhile

from bench.trace import BLOCK_TOKENS, TraceEntry
from bench.workloads import Decode, Encode, Prompt, Prompts
from results.cases import PromptFormat
from results.errors import UsageError

OPENINGS = (" So", " And so", " And then so")
"""Where a text is cut, its end may come out as more or fewer tokens or join what follows, so that some lengths do not exist:
these words shift it."""
ATTEMPTS = 16
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
        before = f"{prefix}{number + 1}.{self._mark}"
        if tokens is not None:
            return Prompt(index, *self._fit(index, before, tokens, may_cut=not prefix), self._form)
        text = f"{before} {self._texts[index]}"
        return Prompt(index, text, tuple(self._encode(text, self._form)), self._form)

    def shared_prefix(self, tokens: int) -> str:
        """A text whose continuations have exactly so many first tokens in common, those of the template included."""

        def common(text: str) -> int:
            pair = zip(*(self._encode(text + end, self._form) for end in "12"), strict=False)
            return sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], pair))

        before, after = f"Shared {self._mark}.", " No. "
        found = self._search(0, before, after, common, tokens)
        if found is None:
            least = max(tokens, common(before + after))
            raise UsageError(f"shared_prefix_tokens: no beginning of {tokens} tokens can be made: choose more than {least}.")
        return found

    def blocks(self, entry: TraceEntry, number: int) -> tuple[int, ...]:
        """The ids of a prompt that begins with the entry's blocks."""
        ids = self._specials[: entry.prompt_tokens]
        for position, block in enumerate(entry.blocks, 1):
            if block not in self._blocks:
                self._blocks[block] = self._inner(block, f" Part {block}.{self._mark}", BLOCK_TOKENS)
            ids += self._blocks[block][: min(position * BLOCK_TOKENS, entry.prompt_tokens) - len(ids)]
        rest = entry.prompt_tokens - len(ids)
        return ids + self._inner(number, f" {number + 1}.{self._mark}", rest) if rest else ids

    def _inner(self, index: int, before: str, tokens: int) -> tuple[int, ...]:
        """So many ids, to stand behind others."""
        specials = len(self._specials)
        return self._fit(index % len(self._texts), before, tokens + specials, may_cut=True)[1][specials:]

    def _fit(self, index: int, before: str, tokens: int, *, may_cut: bool) -> tuple[str, tuple[int, ...]]:
        """A text that encodes to exactly so many tokens, and these.

        Args:
            before: what it begins with.
            may_cut: a plain text may end within `before`.
        """
        encoded: dict[str, tuple[int, ...]] = {}

        def length(text: str) -> int:
            encoded[text] = tuple(self._encode(text, self._form))
            return len(encoded[text])

        found = self._search(index, before, "", length, tokens)
        if found is not None:
            return found, encoded[found]
        least = length(before)
        if may_cut and self._form == "plain" and tokens < least:
            return self._decode(encoded[before][:tokens]), encoded[before][:tokens]
        raise UsageError(
            f"prompt_tokens: no prompt of exactly {tokens} tokens can be made: choose more than {max(tokens, least)}."
        )

    def _search(self, index: int, before: str, after: str, measure: Callable[[str], int], target: int) -> str | None:
        """The text with as much of a body between `before` and `after` as `measure` needs to give `target`."""
        # Beginnings of one length in characters are mostly of one length in tokens: the first shows how many those are.
        kept = max(0, target - self._extra.get(len(before), 0))
        openings, opening, tried = iter(OPENINGS), "", set[int]()
        for _ in range(ATTEMPTS):
            text = before + opening + self._beginning(index, kept) + after
            if (found := measure(text)) == target:
                self._extra[len(before)] = target - kept
                return text
            if found > target and not kept:
                break
            tried.add(kept)
            kept = max(0, kept + target - found)
            if kept in tried:
                opening = next(openings, opening)
                tried.clear()
        return None

    def _beginning(self, index: int, kept: int) -> str:
        """The first `kept` tokens of a space, this prompt and the others after it, as often as needed."""
        count = 1
        while len(self._bodies.get(index, ())) < kept:
            pieces = (self._texts[(index + following) % len(self._texts)] for following in range(count))
            self._bodies[index] = self._encode(" " + "\n".join(pieces), "plain")
            if not self._bodies[index]:
                raise UsageError(
                    "prompt_tokens: nothing here can tokenize for this server: name a tokenizer folder, or leave it out."
                )
            count *= 2
        if (index, kept) not in self._beginnings:
            self._beginnings[index, kept] = self._decode(self._bodies[index][:kept]) if kept else ""
        return self._beginnings[index, kept]

    @cached_property
    def _specials(self) -> tuple[int, ...]:
        """That a plain text begins with, such as the beginning of sequence."""
        return tuple(self._encode("", "plain"))
