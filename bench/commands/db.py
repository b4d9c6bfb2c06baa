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
    """Bring the store to this version; an older SQLite store is copied first."""
    import sqlalchemy as sa

    from results import database

    path = _file(store_url)
    copies = set(_copies(path))
    engine = sa.create_engine(database.parse_url(store_url))
    try:
        with engine.connect() as connection:
            revision, head = database.revisions(connection)
    except sa.exc.DBAPIError:
        revision, head = None, ""  # the opening below says in one sentence what is wrong
    finally:
        engine.dispose()
    database.open_for_writing(store_url).dispose()
    if revision == head:
        click.echo(f"The store is at this version already (revision {head}).")
        return 0
    click.echo(f"Upgraded the store from revision {revision or 'none'} to {head}.")
    for copy in sorted(set(_copies(path)) - copies):
        click.echo(f"The store as it was before: {copy}")
    return 0


@db.command()
@click.argument("target", required=False, type=click.Path(path_type=Path, dir_okay=False))
@store_option
def backup(target: Path | None, store_url: str) -> int:
    """Copy a SQLite store to TARGET (or beside itself), also while a benchmark writes to it."""
    from results import database
    from results.errors import UsageError

    path = _file(store_url)
    if path is None:
        raise UsageError("Only SQLite stores are copied here: use `pg_dump` for PostgreSQL.")
    click.echo(database.backup(path, target))
    return 0


def _file(store_url: str) -> Path | None:
    """The store's file, which must exist; `None` for other databases."""
    from results import database
    from results.errors import StoreError

    path = database.sqlite_path(database.parse_url(store_url))
    if path is not None and not path.is_file():
        raise StoreError(f"There is no store at {path}: run `bench run SUITE` first, or name one with --store.")
    return path


def _copies(path: Path | None) -> list[Path]:
    """The backups beside the store that `results.database` named."""
    return list(path.parent.glob(f"{path.stem}-*.backup.db")) if path else []
