"""`bench db`: checking, upgrading and copying the store."""

from pathlib import Path

import click

from bench.commands.options import store_option


@click.group()
def db() -> None:
    """Care for the store: check it, bring it to this version, copy it."""


@db.command()
@store_option
def check(store_url: str) -> int:
    """Look for damage; exits 5 and lists it when there is any."""
    import sqlalchemy as sa

    from results import database

    engine = database.open_for_reading(store_url)
    try:
        problems = database.check(engine)
    except sa.exc.DatabaseError as error:
        problems = [f"the check itself failed: {error.orig}"]
    finally:
        engine.dispose()
    for problem in problems:
        click.echo(problem)
    click.echo("The store is damaged: copy what can be read with `bench export`, then restore a backup." if problems else "sound")
    return 5 if problems else 0


@db.command()
@store_option
def upgrade(store_url: str) -> int:
    """Bring the store to this version; an older SQLite store is copied first, one in PostgreSQL never."""
    from results import database

    done = database.upgrade(store_url)
    if done.before == done.after:
        click.echo(f"The store is at this version already (revision {done.after}).")
        return 0
    click.echo(f"Upgraded the store from revision {done.before or 'none'} to {done.after}.")
    if done.copy is not None:
        click.echo(f"The store as it was before: {done.copy}")
    elif done.before is not None:
        click.echo("No copy was made.")
    return 0


@db.command()
@click.argument("target", required=False, type=click.Path(path_type=Path, dir_okay=False))
@store_option
def backup(target: Path | None, store_url: str) -> int:
    """Copy a SQLite store to TARGET (or beside itself), also while a benchmark writes to it; PostgreSQL has pg_dump."""
    from results import database

    click.echo(database.backup(database.existing_path(store_url), target))
    return 0
