"""Opening the store's database: engine, pragmas, migrations, backups. What stands in the tables is left to `results.store`."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from results.errors import StoreError

DEFAULT_URL = "sqlite:///.bench/results.db"
BUSY_TIMEOUT_MS = 30_000
MIGRATIONS = Path(__file__).parent / "migrations"

SAFE_WAL = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""SQLite releases in which the WAL-reset corruption with several connections is mended: two backports, then all later."""


def wal_is_safe(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether write-ahead logging with several connections is safe in this SQLite."""
    return version >= SAFE_WAL[-1] or any(fixed <= version and fixed[:2] == version[:2] for fixed in SAFE_WAL)


@dataclass(frozen=True)
class Upgrade:
    """How a store came to this version."""

    before: str | None
    """Its revision before; `None`: it was empty."""
    after: str
    copy: Path | None
    """The store as it was before, if it was an older one."""


@contextmanager
def readable_errors(problem: str, remedy: str, kind: type[StoreError] = StoreError) -> Iterator[None]:
    """Turns the database's own errors into one sentence of ours, the database's reason between the two halves."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, sqlite3.Error, ValueError) as error:  # ValueError: a damaged row that makes no record
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise kind(f"{problem}: {reason}. {remedy}") from error


def parse_url(url: str) -> sa.URL:
    """The URL of a store; a plain path means SQLite.

    Raises:
        StoreError: no database URL, or one of a database that is not supported.
    """
    if "://" not in url:
        url = f"sqlite:///{url}"
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StoreError("The store is not a database URL: give sqlite:///PATH or a path.") from error
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(f"A store in {parsed.get_backend_name()!r} is not supported: use sqlite:///PATH or a path.")
    return parsed


def sqlite_path(url: sa.URL) -> Path | None:
    """The database file; `None` for `:memory:`."""
    if not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def existing_path(url: str) -> Path:
    """The file of a store that is there already.

    Raises:
        StoreError: there is none.
    """
    path = sqlite_path(parse_url(url))
    if path is None:
        raise StoreError("A store in memory ends with its program: name one in a file with --store.")
    if not path.is_file():
        raise StoreError(f"There is no store at {path}: run `bench run SUITE` first, or name one with --store.")
    return path


def open_for_writing(url: str, *, migrations: Path = MIGRATIONS) -> sa.Engine:
    """Open, create or migrate the store; an older SQLite store is copied first.

    Raises:
        StoreError: the store is from a newer version, is no database, or cannot be written.
    """
    return _opened_for_writing(url, migrations)[0]


def upgrade(url: str, *, migrations: Path = MIGRATIONS) -> Upgrade:
    """Bring a store that is there already to this version; an older one is copied first.

    Raises:
        StoreError: as `open_for_writing`, or there is none.
    """
    existing_path(url)
    engine, done = _opened_for_writing(url, migrations)
    engine.dispose()
    return done


def _opened_for_writing(url: str, migrations: Path) -> tuple[sa.Engine, Upgrade]:
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    if path is not None:
        _make_folder(path)
    engine = _engine(parsed, read_only=False)
    try:
        with _readable_opening(parsed):
            done = _upgrade(engine, path, migrations)
            if path is not None:  # only now: what is no store of ours stays as it is
                with closing(engine.raw_connection()) as connection:
                    connection.cursor().execute(f"PRAGMA journal_mode = {'WAL' if wal_is_safe() else 'DELETE'}")
    except BaseException:
        engine.dispose()
        raise
    return engine, done


def open_for_reading(url: str, *, migrations: Path = MIGRATIONS) -> sa.Engine:
    """Open an existing store without changing it.

    Raises:
        StoreError: there is none, or it is older or newer than this version.
    """
    existing_path(url)
    parsed = parse_url(url)
    engine = _engine(parsed, read_only=True)
    with _readable_opening(parsed), engine.connect() as connection:
        revision, head = _revisions(connection, migrations)
    if revision is None:
        raise StoreError(f"{parsed.render_as_string()} is no Gemmeter store: name another with --store.")
    if revision != head:
        raise StoreError("The store is older than this version: run `bench db upgrade`, which makes a copy first.")
    return engine


def _revisions(connection: sa.Connection, migrations: Path) -> tuple[str | None, str]:
    """The store's revision (`None` before the first) and this version's."""
    scripts = ScriptDirectory.from_config(_alembic_config(migrations))
    head = scripts.get_current_head() or ""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(f"The store comes from a newer version (revision {revision}): upgrade gemmeter to use it.")
    return revision, head


def _upgrade(engine: sa.Engine, path: Path | None, migrations: Path) -> Upgrade:
    """All migrations in one transaction."""
    with engine.connect() as connection:
        revision, head = _revisions(connection, migrations)
        if revision == head:
            return Upgrade(revision, head, None)
        if revision is None and sa.inspect(connection).get_table_names():
            raise StoreError("The database holds other tables and is no Gemmeter store: name another with --store.")
    copy = backup(path) if path is not None and revision is not None else None
    with engine.begin() as connection:
        if _revisions(connection, migrations)[0] != head:
            config = _alembic_config(migrations)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return Upgrade(revision, head, copy)


def backup(path: Path, target: Path | None = None) -> Path:
    """Copy a SQLite store while others may use it; the copy appears whole or not at all.

    Raises:
        StoreError: there is no store, or the target exists.
    """
    if not path.exists():
        raise StoreError(f"There is no store at {path} to copy.")
    if target is None:
        target = path.with_name(f"{path.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.backup.db")
    if target.exists():
        raise StoreError(f"{target} exists already: name another file.")
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"The store at {path} could not be copied: {error}.") from error
    partial.rename(target)
    return target


def check(engine: sa.Engine) -> list[str]:
    """What is wrong with the store, one sentence each: damaged pages, rows without their parents. Empty when sound."""
    problems = []
    with engine.connect() as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        problems += [f"SQLite's integrity check says: {line}" for line in found if line != "ok"]
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        problems += [f"row {row[1]} of {row[0]} has lost its parent in {row[2]}" for row in orphans]
    return problems


def _engine(url: sa.URL, *, read_only: bool) -> sa.Engine:
    path = sqlite_path(url)
    if path is None:
        engine = sa.create_engine(url, poolclass=sa.pool.StaticPool)
    elif read_only:
        engine = sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        )
    else:
        engine = sa.create_engine(url)

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _readable_opening(url: sa.URL) -> AbstractContextManager[None]:
    name = url.render_as_string(hide_password=True)
    return readable_errors(f"The store {name} cannot be opened", "Check the path and its rights.")


def _make_folder(path: Path) -> None:
    folder = path.parent
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            if folder.name == ".bench":
                (folder / ".gitignore").write_text("*\n")
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be made: {error.strerror}. Name another store with --store.") from error


def _alembic_config(migrations: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    return config
