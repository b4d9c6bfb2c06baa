"""`bench baseline`: what runs are judged against, moved with author and reason. What a baseline means is `bench.references`'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from bench.commands.options import json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results.decided import Baseline

author_option = click.option("--author", metavar="WHO", help="Who decides it.  [default: git's user, else the login name]")


@click.group()
def baseline() -> None:
    """What runs are judged against. Every move of a baseline stays in the store, with its author and its reason."""


@baseline.command("set")
@click.argument("name")
@click.argument("references", nargs=-1, required=True, metavar="REF...")
@click.option("--reason", default="", metavar="TEXT", help="Why; required where the baseline stands already.")
@click.option("--follow", is_flag=True, help="Keep REF itself, and look up what it means each time.")
@click.option("--force", is_flag=True, help="Take runs too that did not finish.")
@author_option
@store_option
def set_baseline(
    name: str, references: tuple[str, ...], reason: str, follow: bool, force: bool, author: str | None, store_url: str
) -> int:
    """Pin baseline NAME to the runs that each REF means now; several are judged against together.

    REF is a run (an id, its beginning, or `latest`), a tag, a branch or another baseline. With --follow it is one of
    rolling:K, rolling:K:BRANCH, fork-point, fork-point:BRANCH, tag:NAME and branch:NAME, and the baseline moves with it.
    """
    from bench.baselines import check_reason, standing
    from bench.commands.tag import check_names
    from bench.references import followed
    from bench.sides import pinnable
    from results.store import Store

    check_names("baseline", [name])
    if follow and len(references) > 1:
        raise click.UsageError("--follow takes one REF.")
    with Store.reading(store_url) as store:
        if name in standing(store.baselines()):
            check_reason(reason, f"Baseline {name!r} stands already")
        reference = followed(references[0]).text if follow else None
        run_ids = () if follow else pinnable(references, store, force=force)
    _move(name, reference, run_ids, author, reason, store_url)
    return 0


@baseline.command()
@click.argument("name")
@click.argument("run")
@click.option("--reason", required=True, metavar="TEXT", help="Why what changed is right.")
@click.option("--force", is_flag=True, help="Take a run too that did not finish.")
@author_option
@store_option
def accept(name: str, run: str, reason: str, force: bool, author: str | None, store_url: str) -> int:
    """Move the pinned baseline NAME to RUN: what changed there is right, and later runs are judged against it."""
    from bench.baselines import accepting, check_reason, standing
    from bench.sides import pinnable
    from results.store import Store

    with Store.reading(store_url) as store:
        accepting(name, standing(store.baselines()), run)
        check_reason(reason, f"Moving baseline {name!r}")
        run_ids = pinnable((run,), store, force=force)
    _move(name, None, run_ids, author, reason, store_url)
    return 0


@baseline.command()
@click.argument("name")
@click.option("--reason", required=True, metavar="TEXT", help="Why it is needed no more.")
@author_option
@store_option
def remove(name: str, reason: str, author: str | None, store_url: str) -> int:
    """Take baseline NAME away; its runs and its history stay."""
    from bench.baselines import check_reason, known, standing
    from results.store import Store

    with Store.reading(store_url) as store:
        known(name, standing(store.baselines()))
    check_reason(reason, f"Removing baseline {name!r}")
    _move(name, None, (), author, reason, store_url)
    return 0


@baseline.command("list")
@store_option
@json_option
def list_baselines(store_url: str, as_json: bool) -> int:
    """List the baselines, and what each stands for."""
    from bench.baselines import standing
    from results.store import Store

    with Store.reading(store_url) as store:
        moves = list(standing(store.baselines()).values())
    if not moves and not as_json:
        click.echo("There are no baselines yet: make one with `bench baseline set NAME RUN`.")
        return 0
    _show(moves, ("Baseline", "Stands for", "Author", "Since", "Reason"), as_json)
    return 0


@baseline.command()
@click.argument("name")
@store_option
@json_option
def show(name: str, store_url: str, as_json: bool) -> int:
    """Show every move of baseline NAME, newest first: when, who, why, and to which runs."""
    from bench.baselines import known
    from results.store import Store

    with Store.reading(store_url) as store:
        moves = store.baselines()
    known(name, {move.name: move for move in moves})
    mine = [move for move in reversed(moves) if move.name == name]
    _show(mine, ("", "Moved to", "Author", "When", "Reason"), as_json)
    return 0


def _move(name: str, reference: str | None, run_ids: tuple[str, ...], author: str | None, reason: str, store_url: str) -> None:
    from datetime import UTC, datetime

    from bench.baselines import standing, stands_for
    from bench.git import author as whoever
    from results.decided import Baseline
    from results.format import plain
    from results.store import Store

    with Store.reading(store_url) as store:
        before = standing(store.baselines()).get(name)
    move = Baseline(
        name=name, reference=reference, run_ids=run_ids, author=author or whoever(), reason=reason, at=datetime.now(UTC)
    )
    with Store.writing(store_url) as store:
        store.add_baseline(move)
    was = f"{stands_for(before)} → " if before else ""
    click.echo(plain(f"{name}: {was}{stands_for(move)}"))


def _show(moves: Sequence[Baseline], headers: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([json.loads(move.to_json()) for move in moves], indent=2, ensure_ascii=False))
        return
    from rich.console import Group
    from rich.text import Text

    from bench.baselines import stands_for
    from bench.tables import Column, Fitted, console, table
    from results.format import moment, plain

    lines = [
        (move.name if headers[0] else "", stands_for(move), move.author.partition(" <")[0], moment(move.at), move.reason)
        for move in moves
    ]
    cells = list(zip(*lines, strict=True))
    cells[1] = tuple(runs.replace(", ", "\n") for runs in cells[1])
    wide = table(Column(*one) for one in zip(headers, cells, (0, 0, 8, 10, 12), strict=True))
    stacked = [Text(plain(" ".join(filter(None, line[:2])) + "\n  " + ", ".join(filter(None, line[2:])))) for line in lines]
    console().print(Fitted((wide, Group(*stacked))))
