"""The room for tokens that an engine makes when it loads. A case's own lengths decide it, so that its memory never depends on which
other cases a suite has."""

from results.cases import Case

CONTEXT_TOKENS = 4096
"""Room per sequence unless a case needs more."""
SPARE_TOKENS = 64
"""For a prompt whose length is not known before, and for what a chat template adds."""


def context_of(case: Case, longest_request: int = 0) -> int:
    """Tokens per sequence: a power of two, so that few lengths make a difference.

    Args:
        longest_request: tokens of the longest request of the case's trace, prompt and answer together.
    """
    longest = (case.depth + (case.prompt_tokens or 0) + case.output_tokens) * case.turns
    return max(CONTEXT_TOKENS, 1 << (max(longest, longest_request) + SPARE_TOKENS - 1).bit_length())
