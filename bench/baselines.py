"""Baselines: where each stands after its moves, and which moves are allowed. Storing them is `results.store`'s."""

from collections.abc import Iterable, Mapping, Sequence

from results.decided import Baseline
from results.errors import UsageError
from results.validation import nearest


def standing(moves: Iterable[Baseline]) -> dict[str, Baseline]:
    """The newest move of each baseline that was not taken away, by name.

    Args:
        moves: oldest first.
    """
    newest = {move.name: move for move in moves}
    return {name: newest[name] for name in sorted(newest) if not is_removal(newest[name])}


def is_removal(move: Baseline) -> bool:
    return move.reference is None and not move.run_ids


def stands_for(move: Baseline) -> str:
    """In words, such as `20260301-120000-aaaa`, `follows rolling:5` or `removed`."""
    if is_removal(move):
        return "removed"
    return ", ".join(move.run_ids) if move.reference is None else f"follows {move.reference}"


def accepted(moves: Sequence[Baseline]) -> list[Baseline]:
    """The moves that took a standing baseline to other runs: what was measured there was accepted as its level."""
    stood: dict[str, Baseline] = {}
    found = []
    for move in moves:
        if move.run_ids and move.name in stood and not is_removal(stood[move.name]):
            found.append(move)
        stood[move.name] = move
    return found


def known(name: str, baselines: Mapping[str, Baseline]) -> Baseline:
    """The baseline of this name.

    Raises:
        UsageError: there is none.
    """
    if name in baselines:
        return baselines[name]
    hint = nearest(name, baselines) if baselines else ": there are none yet; make one with `bench baseline set NAME RUN`."
    raise UsageError(f"No baseline is called {name!r}{hint}")


def check_reason(reason: str, what: str) -> None:
    """Refuse a blank reason.

    Raises:
        UsageError: it is; the message begins with `what`.
    """
    if not reason.strip():
        raise UsageError(f"{what}: say why with --reason TEXT.")


MOVED_BY = {
    "rolling": "its window moves with each run; to begin it anew at a run that you accept, pin it there with "
    "`bench baseline set {name} {run} --reason TEXT`, and set it to follow again",
    "fork-point": "it moves when the change is merged and measured there",
    "tag": "give the run its tag with `bench tag {run} {value}`",
    "branch": "it moves with the next run on that branch",
}
"""How baselines move that follow something, by its kind."""


def accepting(name: str, baselines: Mapping[str, Baseline], run: str) -> None:
    """Refuse to move a baseline by hand that follows something.

    Raises:
        UsageError: it does, or there is no such baseline.
    """
    stands = known(name, baselines)
    if stands.reference is not None:
        kind, _, value = stands.reference.partition(":")
        raise UsageError(
            f"Baseline {name!r} follows {stands.reference}: {MOVED_BY[kind].format(name=name, run=run, value=value)}."
        )
