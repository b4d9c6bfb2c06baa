"""How many tokens each event of an answer carried, from what is known: a chunk is not a token."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

Count = Callable[[str], int]
"""Tokens of a text without special tokens."""


def event_tokens(
    texts: Sequence[str], counted: Sequence[int | None], total: int | None, stopped: bool, count: Count | None
) -> tuple[tuple[int, ...], bool]:
    """Tokens of each event, 0 for those without text, and whether they are mere shares of the total.

    In this order: the server's running count; one each, when there are as many events as tokens; what a tokenizer makes of
    the text up to each event; shares by the length of the text. A token that has no text counts with the next text, at the
    end with the last.

    Args:
        counted: the server's running count with each event, where it gave one; that of the log-probabilities where they are whole.
        total: output tokens; `None`: unknown, and one each.
        stopped: whether the model ended by itself, so that the total may hold an end-of-sequence token.
    """
    full = [number for number, text in enumerate(texts) if text]
    shares, uneven = _shares([texts[number] for number in full], [counted[number] for number in full], total, stopped, count)
    tokens = [0] * len(texts)
    for number, share in zip(full, shares, strict=True):
        tokens[number] = share
    return tuple(tokens), uneven


def _shares(
    texts: list[str], counted: list[int | None], total: int | None, stopped: bool, count: Count | None
) -> tuple[list[int], bool]:
    events = len(texts)
    if total is None or events in (0, total):
        return [1] * events, False
    running = [reached for reached in counted if reached is not None]
    if _plausible(running, events, total):
        return _steps([*running[:-1], total], 0), False
    if stopped and total == events + 1:
        return [1] * (events - 1) + [2], False
    if count:
        ends = [count(prefix) for prefix in accumulate(texts)]
        if ends[-1] == total or (stopped and ends[-1] == total - 1):
            return _steps(_bounded(ends, total), 0), False
    lengths = list(accumulate(map(len, texts)))
    return _steps(_bounded([round(total * length / lengths[-1]) for length in lengths], total), 0), True


def _plausible(running: list[int], events: int, total: int) -> bool:
    """Whether these can be running counts: some servers repeat the total, or nothing, in every event."""
    if len(running) < events or running[0] < 1 or running[-1] > total:
        return False
    return all(earlier <= later for earlier, later in pairwise(running)) and (events == 1 or running[0] < running[-1])


def _bounded(ends: list[int], total: int) -> list[int]:
    """Tokens up to the end of each event, so that each has one at least, or the first where there are too few, and all the total."""
    least = 1 if total >= len(ends) else 0
    bounded, reached = [], 0
    for left, end in zip(range(len(ends) - 1, -1, -1), ends, strict=True):
        reached = max(reached + least, min(end, total - left * least), 1)
        bounded.append(reached)
    return [*bounded[:-1], total]


def _steps(ends: list[int], start: int) -> list[int]:
    return [later - earlier for earlier, later in pairwise([start, *ends])]
