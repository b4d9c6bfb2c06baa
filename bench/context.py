"""The room for tokens that an engine makes when it loads: one rule for what is planned and for what is measured."""

from collections.abc import Iterable

from results.cases import Case

CONTEXT_TOKENS = 4096
"""Room per sequence that an engine makes unless a case needs more: the same for all shorter cases, as memory depends on it."""
SPARE_TOKENS = 64
"""For a prompt whose length is not known before, and for what a chat template adds."""


def context_of(cases: Iterable[Case], longest_request: int = 0) -> int:
    """Tokens per sequence where these cases share a load: a power of two, so that few lengths make a difference.

    Args:
        longest_request: tokens of the longest request of a trace, prompt and answer together.
    """
    longest = max((one.depth + (one.prompt_tokens or 0) + one.output_tokens) * one.turns for one in cases)
    return max(CONTEXT_TOKENS, 1 << (max(longest, longest_request) + SPARE_TOKENS - 1).bit_length())
