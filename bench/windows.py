"""Which stored runs a branch, a rolling window or a fork point means beside the other side of a comparison."""

from collections.abc import Sequence

from bench.baselines import accepted
from bench.git import first_parents, fork_point, shallow_remedy
from bench.references import Reference
from results.decided import Baseline
from results.errors import NotComparableError
from results.sides import Side
from results.stored_runs import StoredRun


def newest_of_branch(branch: str, runs: Sequence[StoredRun], other: Side | None) -> list[StoredRun]:
    """The newest finished run of the branch; beside another side of its suite, and none of its runs.

    Args:
        runs: newest first, here and below.

    Raises:
        NotComparableError: there is none, here and below.
    """
    mine = [run for run in runs if run.kind == "bench" and run.status == "finished" and run.git_branch == branch]
    if other:
        mine = [run for run in mine if run.suite == other.report.run.suite and run.run_id not in other.run_ids]
    if not mine:
        besides = f" besides {other.name} of suite {other.report.run.suite!r}" if other else ""
        raise NotComparableError(f"No finished run is of branch {branch!r}{besides}: measure it there first.")
    return mine[:1]


def window(rule: Reference, runs: Sequence[StoredRun], moves: Sequence[Baseline], other: Side) -> list[StoredRun]:
    """The runs before the other side among which a rolling window takes the newest ones, newest first.

    None is older than the newest run that a baseline was moved to: what was accepted there is the level since.
    """
    started = [run.started_at for run in runs if run.run_id in other.run_ids] or [other.report.run.started_at]
    before = [run for run in _like(other, runs) if run.started_at < min(started)]
    levels = {run_id for move in accepted(moves) for run_id in move.run_ids}
    since = max((run.started_at for run in before if run.run_id in levels), default=None)
    mine = [run for run in before if rule.name in ("", run.git_branch) and (since is None or run.started_at >= since)]
    if not mine:
        of_branch = f" of branch {rule.name!r}" if rule.name else ""
        raise NotComparableError(
            f"{rule.text} holds no run: none of suite {other.report.run.suite!r}{of_branch} was finished on the same machine "
            f"before {other.name} began. Measure the suite there first, or name a run."
        )
    return mine


def of_fork_point(branch: str | None, runs: Sequence[StoredRun], other: Side) -> list[StoredRun]:
    """The finished runs of the nearest commit at or before the fork point that has any without uncommitted changes.

    Raises:
        UsageError: no checkout, or no such branch in it.
    """
    run = other.report.run
    fork = fork_point(run.git_commit, branch)
    commits = first_parents(fork.commit)
    if fork.commit == fork.head and not run.git_dirty:
        commits = commits[1:]  # on the branch itself what this commit changed is judged, against the one before
    clean = [one for one in _like(other, runs) if not one.git_dirty]
    for commit in commits:
        if found := [one for one in clean if one.git_commit == commit]:
            return found
    raise NotComparableError(
        f"No finished run of suite {run.suite!r} on the same machine is of a commit of {fork.branch!r} at or before the fork point "
        f"{fork.commit[:12]}: measure that commit, or name a run. {shallow_remedy()}".rstrip()
    )


def _like(other: Side, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The finished runs of the other side's suite on its machine, without its own."""
    suite, machine_id = other.report.run.suite, other.report.run.environment.machine_id
    mine = [run for run in runs if run.suite == suite and run.machine_id == machine_id and run.run_id not in other.run_ids]
    return [run for run in mine if run.kind == "bench" and run.status == "finished"]
