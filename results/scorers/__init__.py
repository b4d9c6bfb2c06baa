"""The scorers by name and version: text in, items between 0 and 1 out. Which outputs are scored is the caller's choice."""

from collections.abc import Callable

from results.errors import UsageError
from results.records import Request, Score
from results.scorers import heuristic_v1
from results.validation import nearest

Scorer = Callable[[str, str, str | None], dict[str, float]]

SCORERS: dict[str, Scorer] = {"heuristic-v1": heuristic_v1.score}
"""By `<scorer>-<version>`: a changed formula is a new version, so that old numbers keep their meaning."""


def score_request(scorer_name: str, request: Request, reference: str | None = None) -> tuple[Score, ...]:
    """The scores of a stored output; none when the request failed or its content was not kept as text.

    Raises:
        UsageError: there is no such scorer.
    """
    if scorer_name not in SCORERS:
        raise UsageError(f"unknown scorer {scorer_name!r}{nearest(scorer_name, SCORERS)}")
    if request.error or request.content_policy not in ("full", "redacted") or request.prompt is None or request.output is None:
        return ()
    scorer, _, version = scorer_name.rpartition("-")
    items = SCORERS[scorer_name](request.prompt, request.output, reference)
    return tuple(
        Score(request_id=request.request_id, scorer=scorer, version=version, item=item, value=value)
        for item, value in items.items()
    )
