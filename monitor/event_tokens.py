"""How many tokens each event of an answer carried, from what is known: a chunk is not a token."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

Count = Callable[[str], int]
"""Tokens of a text without special tokens."""


def event_tokens(
    texts: Sequence[str], counted: Sequence[int | None], total: int | None, stopped: bool, count: Count | None, hidden: int = 0
) -> tuple[tuple[int, ...], bool]:
    """Tokens of each event, and whether they are mere shares of the total.

    In this order: the server's running count, by which an event without text may be a token too; one for each text, when there
    are as many as tokens; what a tokenizer makes of the text up to each event; shares by the length of the text. A token that
    has no event of its own counts with the next text, at the end with the last; but an end of sequence counts with none, as
    nobody saw when it came.

    Args:
        counted: the server's running count with each event, where it gave one; that of the log-probabilities where they are whole.
        total: output tokens; `None`: unknown, and one for each text.
        stopped: whether the model ended by itself, so that the total may hold an end-of-sequence token.
        hidden: tokens of the total that no event shows, as they were thought before the first text.
    """
    full = [number for number, text in enumerate(texts) if text]
    tokens = [0] * len(texts)
    if total is not None and _plausible(counted, full, total):
        reached = 0
        for number, upto in enumerate(counted):
            if upto is not None:
                tokens[number], reached = upto - reached, upto
        if not (stopped and reached + 1 == total):
            tokens[full[-1] if full else len(tokens) - 1] += total - reached
        return tuple(tokens), False
    if total is None or not 0 <= hidden < total:
        hidden = 0
    shares, uneven = _shares([texts[number] for number in full], None if total is None else total - hidden, stopped, count)
    for number, share in zip(full, shares, strict=True):
        tokens[number] = share
    if full:
        tokens[full[0]] += hidden
    return tuple(tokens), uneven


def _shares(texts: list[str], total: int | None, stopped: bool, count: Count | None) -> tuple[list[int], bool]:
    events = len(texts)
    if total is None or events in (0, total) or (stopped and total == events + 1):
        return [1] * events, False
    if count:
        ends = [count(prefix) for prefix in accumulate(texts)]
        if ends[-1] == total or (stopped and ends[-1] == total - 1):
            return _steps(_bounded(ends, ends[-1])), False
    lengths = list(accumulate(map(len, texts)))
    return _steps(_bounded([round(total * length / lengths[-1]) for length in lengths], total)), True


def _plausible(counted: Sequence[int | None], full: list[int], total: int) -> bool:
    """Whether these can be running counts: some servers repeat the total, or nothing, in every event."""
    running = [reached for reached in counted if reached is not None]
    texts = [reached for number in full if (reached := counted[number]) is not None]
    if not running or len(texts) < len(full) or running[-1] > total or any(later < one for one, later in pairwise(running)):
        return False
    if not full:
        return running[0] < running[-1] or total == 1
    before = max((reached for reached in counted[: full[0]] if reached is not None), default=0)
    return before < texts[0] and (len(texts) == 1 or texts[0] < texts[-1])


def _bounded(ends: list[int], total: int) -> list[int]:
    """Tokens up to the end of each event, so that each has one at least, or the first where there are too few, and all the total."""
    least = 1 if total >= len(ends) else 0
    bounded, reached = [], 0
    for left, end in zip(range(len(ends) - 1, -1, -1), ends, strict=True):
        reached = max(reached + least, min(end, total - left * least), 1)
        bounded.append(reached)
    return [*bounded[:-1], total]


def _steps(ends: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise([0, *ends])]
