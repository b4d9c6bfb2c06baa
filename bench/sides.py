"""What people compare: `latest`, a run's id, a tag, a branch, a baseline, a rolling window, a fork point or a report file becomes a side.

latest · 20261122-1015 (an id or its beginning) · NAME (a baseline, a tag or a branch) · baseline:NAME · tag:NAME · branch:NAME
rolling:K (the last K finished runs of the suite before the other side, of the stable segment) · fork-point[:BRANCH] · report.json
"""

from results.sides import Side


def sides(a: str, b: str, store_url: str) -> tuple[Side, Side]:
    """Both sides of a comparison; a reference such as `rolling:5` or `fork-point` means something beside the other one.

    Raises:
        UsageError: nothing, or several things, answer to a reference.
        NotComparableError: a baseline, window or fork point without runs.
    """
    raise NotImplementedError
