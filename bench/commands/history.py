"""`bench history`: how metrics went from run to run, where they changed, and what people say about it.

Finding changes is `results.history_changes`', grouping them `results.history_groups`', layout `bench.history_table`'s and `bench.history_points`'.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from results.decided import Mark


class ShownByDefault(click.Group):
    """`bench history …` is `bench history show …` unless a command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which histories are meant."""
    for option in (
        click.option(
            "--release", metavar="NAME", help="The pinned baseline of the drift guard; else `release`, if there is one."
        ),
        click.option("--dirty", is_flag=True, help="Runs of changed working trees too."),
        click.option("--branch", metavar="NAME", help="Only runs of this branch."),
        click.option("--metric", "metrics", multiple=True, metavar="M", help="Such as tpot_s; else those that a gate judges."),
        click.argument("case", nargs=-1, metavar="[CASE]..."),
    ):
        command = option(command)
    return command


_reason = click.option("--reason", required=True, metavar="TEXT", help="Why: it is kept and shown.")
_author = click.option("--author", metavar="NAME", help="Else git's user, or the login name.")


@click.group(cls=ShownByDefault, options_metavar="[CASE]... | COMMAND", subcommand_metavar="[OPTIONS]")
def history() -> None:
    """Show how metrics went from run to run, and where they changed.

    `bench history [CASE]... [OPTIONS]` is `bench history show`, whose --help has the options.
    """


@history.command()
@_chosen
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many runs of a series to list.")
@store_option
@json_option
def show(
    case: tuple[str, ...], metrics: tuple[str, ...], branch: str | None, dirty: bool, release: str | None, limit: int, store_url: str,
    as_json: bool,
) -> int:  # fmt: skip
    """Show what changed over all series, or the series of one CASE: an id or its beginning, or words of its label.

    Exits 1 when a confirmed worsening stands that nobody acknowledged or muted, 3 when one waits for the next run to confirm it,
    else 0.
    """
    from datetime import UTC, datetime

    from bench.history_choice import Asked, find
    from bench.history_json import to_dict
    from bench.history_points import details, metrics_table
    from bench.history_table import overview
    from bench.tables import console
    from results.history_groups import exit_code
    from results.store import Store

    with Store.reading(store_url) as store:
        found = find(store, Asked(case, metrics, branch, dirty, release), datetime.now(UTC))
    if as_json:
        click.echo(json.dumps(to_dict(found, with_points=bool(case)), indent=2, ensure_ascii=False, allow_nan=False))
    elif case and metrics:
        console().print(details(found, limit))
    else:
        if case:
            console().print(metrics_table(found), "")
        console().print(overview(found))
    return exit_code(found.findings)


@history.command()
@_chosen
@click.option(
    "--at", "run", required=True, metavar="RUN", help="Where the change begins: an id, its beginning, a tag, or `latest`."
)
@_reason
@_author
@store_option
def acknowledge(
    case: tuple[str, ...], metrics: tuple[str, ...], branch: str | None, dirty: bool, release: str | None, run: str, reason: str,
    author: str | None, store_url: str,
) -> int:  # fmt: skip
    """Say that the changes which begin at a run are known: they are shown, and fail nothing any more.

    Of all series, or of CASE and --metric alone. What changes later counts again.
    """
    from bench.history_choice import Asked, find, marks_at
    from results.store import Store

    said = _said("acknowledged", author, reason)
    with Store.reading(store_url) as store:
        found = find(store, Asked(case, metrics, branch, dirty, release), said["at"])
        known = marks_at(found, store.resolve_run(run), said)
    _add(known, store_url)
    return 0


@history.command()
@click.argument("case", nargs=-1, required=True, metavar="CASE...")
@click.option("--metric", "metrics", multiple=True, metavar="M", help="Such as tpot_s; else those that a gate judges.")
@click.option("--until", required=True, metavar="TIME", help="12h, 30d, 2w, or a date: what stands then counts again.")
@_reason
@_author
@store_option
def mute(case: tuple[str, ...], metrics: tuple[str, ...], until: str, reason: str, author: str | None, store_url: str) -> int:
    """Say nothing about the changes of CASE until a time, such as those of a metric that is being worked on."""
    from bench.history_choice import Asked, find, mutings, parse_until
    from results.store import Store

    said = _said("muted", author, reason)
    said["expires_at"] = parse_until(until, said["at"])
    with Store.reading(store_url) as store:
        found = find(store, Asked(case, metrics, dirty=True), said["at"])
    _add(mutings(found, said), store_url)
    return 0


@history.command()
@store_option
@json_option
def marks(store_url: str, as_json: bool) -> int:
    """List what was acknowledged and muted, by whom and why, newest first; nothing of it is ever removed."""
    from datetime import UTC, datetime

    from bench.history_table import marks_table
    from bench.tables import console
    from results.store import Store

    with Store.reading(store_url) as store:
        said = store.marks()[::-1]
        labels = {one.case.case_id: one.label for one in store.planned_cases()}
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json") for one in said], indent=2, ensure_ascii=False))
    elif said:
        console().print(marks_table(said, labels, datetime.now(UTC)))
    else:
        click.echo("Nothing is acknowledged or muted.")
    return 0


def _said(kind: str, author: str | None, reason: str) -> dict[str, Any]:
    """What all marks of one command have in common."""
    from datetime import UTC, datetime

    from bench.baselines import check_reason
    from bench.git import author as who_works_here

    check_reason(reason, f"Nothing is {kind} without a reason")
    return {"kind": kind, "author": author or who_works_here(), "reason": reason, "at": datetime.now(UTC)}


def _add(said: list[Mark], store_url: str) -> None:
    from results.format import plain
    from results.store import Store

    with Store.writing(store_url) as store:
        labels = {one.case.case_id: one.label for one in store.planned_cases()}
        for mark in said:
            store.add_mark(mark)
    for mark in said:
        click.echo(plain(f"{mark.kind.capitalize()}: {mark.metric} of {labels[mark.case_id]}"))
