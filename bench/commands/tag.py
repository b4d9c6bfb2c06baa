"""`bench tag` and `bench rm`: naming runs, and removing them."""

import re
import sys
from collections.abc import Iterable
from contextlib import ExitStack

import click

from bench.commands.options import store_option

NAME = re.compile(r"[A-Za-z0-9._/-]+")
RUN_ID = re.compile(r"\d{1,8}|\d{8}-\d{0,6}|\d{8}-\d{6}-\w*")
"""A run id or its beginning."""


def check_tags(tags: Iterable[str]) -> None:
    """Refuse tags that could not be typed or told from a run.

    Raises:
        UsageError: a tag has other characters than letters, digits and . _ - /, or means something else already.
    """
    check_names("tag", tags)


def check_names(what: str, names: Iterable[str]) -> None:
    """The same for the names of tags, baselines and the like."""
    from results.errors import UsageError

    for name in names:
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a {what}: use letters, digits and . _ - / only.")
        if name == "latest" or RUN_ID.fullmatch(name):
            raise UsageError(
                f"{name!r} means a run already: choose a name for the {what} that is not `latest` and reads unlike a run id."
            )
        if name == "fork-point" or name.endswith(".json"):
            raise UsageError(f"{name!r} means something else in comparisons: choose another name for the {what}.")


@click.command()
@click.argument("run")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("--remove", is_flag=True, help="Take the tags away.")
@store_option
def tag(run: str, tags: tuple[str, ...], remove: bool, store_url: str) -> int:
    """Give RUN one or more tags, such as `main` or `release/1.2`; a tag means its newest run."""
    from results.errors import UsageError
    from results.store import Store

    if not remove:
        check_tags(tags)
    with Store.reading(store_url) as store:
        run_id = store.resolve_run(run)
        present = store.report(run_id).tags
    if missing := [one for one in tags if remove and one not in present]:
        raise UsageError(f"Run {run_id} has no tag {missing[0]!r}: it has {', '.join(present) or 'none'}.")
    with Store.writing(store_url) as store:
        store.tag(run_id, tags, remove=remove)
    left = [one for one in present if one not in tags] if remove else sorted({*present, *tags})
    click.echo(f"{run_id}: {', '.join(left) or 'no tags'}")
    return 0


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def rm(runs: tuple[str, ...], yes: bool, store_url: str) -> int:
    """Remove each RUN with all that was measured in it; one that is going on, or that a baseline is pinned to, is refused."""
    from bench.holding import hold_run
    from results.errors import UsageError
    from results.reading import pins
    from results.store import Store

    with Store.reading(store_url) as store:
        run_ids = list(dict.fromkeys(store.resolve_run(run) for run in runs))
        summaries = {one.run_id: one for one in store.runs()}
        pinned = pins(store.baselines())
    for run_id in run_ids:
        if names := pinned.get(run_id):
            raise UsageError(
                f"Baseline {names[0]!r} is pinned to run {run_id}: move it with `bench baseline accept {names[0]} RUN --reason TEXT`, "
                f"or take it away with `bench baseline remove {names[0]} --reason TEXT`, before the run is removed."
            )
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"This would remove {', '.join(run_ids)}: say --yes to remove without being asked.")
        for run_id in run_ids:
            one = summaries[run_id]
            click.echo(f"{run_id}  {one.suite}  {one.measured} measurements  {', '.join(one.tags)}".rstrip())
        if not click.confirm("Remove for good?"):
            click.echo("Nothing was removed.")
            return 0
    with ExitStack() as held, Store.writing(store_url) as store:
        for run_id in run_ids:
            held.enter_context(hold_run(run_id))
        for run_id in run_ids:
            store.remove_run(run_id)
    click.echo(f"Removed {', '.join(run_ids)}.")
    return 0
