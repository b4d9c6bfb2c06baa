"""Opening the store's database: URLs, SQLite's engine, migrations, backups. What PostgreSQL needs is left to
`results.postgresql`, and what stands in the tables to `results.store`."""

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from results import postgresql, schema
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
    except (sa.exc.SQLAlchemyError, sqlite3.Error, ValueError, OverflowError) as error:  # ValueError: a row that makes no record
        raise kind(f"{problem}: {reason(error)}. {remedy}") from error


def reason(error: BaseException) -> str:
    """What a database says of an error, in one line without a full stop."""
    first, *others = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    said = others[-1].strip("- ") if others and first.endswith(":") else first  # psycopg lists addresses that it tried
    return said.rstrip(".")


def refuses_values(error: BaseException | None) -> bool:
    """Whether it is the values that a database refuses: no other disk, server or moment would help."""
    return isinstance(error, sa.exc.IntegrityError | sa.exc.DataError) or not isinstance(error, sa.exc.DBAPIError)


def parse_url(url: str) -> sa.URL:
    """The URL of a store; a plain path means SQLite.

    Raises:
        StoreError: no database URL, or one of a database that is not supported.
    """
    if "://" not in url:
        url = f"sqlite:///{url}"
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # their words may hold a part of a password
        raise StoreError(
            "The store is not a database URL: give sqlite:///PATH, postgresql://USER@HOST/DATABASE or a path."
        ) from None
    match parsed.get_backend_name():
        case "sqlite" if parsed.drivername == "sqlite":
            return parsed
        case "postgresql" | "postgres":
            return postgresql.driver_url(parsed)
        case _:
            raise StoreError(
                f"A store in {parsed.drivername!r} is not supported: use SQLite (a path) or postgresql://USER@HOST/DATABASE."
            )


def shown(url: str) -> str:
    """A store's URL as it may be printed and stored: without secrets."""
    parsed = parse_url(url)
    return url if _is_sqlite(parsed) else postgresql.shown_url(parsed)


def _is_sqlite(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite"


def sqlite_path(url: sa.URL) -> Path | None:
    """The database file; `None` for `:memory:` and for a server."""
    if not _is_sqlite(url) or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def existing_path(url: str) -> Path:
    """The file of a store in SQLite that is there already.

    Raises:
        StoreError: there is none, or the store is on a server.
    """
    parsed = parse_url(url)
    if not _is_sqlite(parsed):
        command = f"pg_dump --format=custom --file=results.dump {shlex.quote(postgresql.shown_url(parsed))}"
        raise StoreError(f"PostgreSQL copies its databases itself: {command}.")
    path = sqlite_path(parsed)
    if path is None:
        raise StoreError("A store in memory ends with its program: name one in a file with --store.")
    if not path.is_file():
        raise StoreError(f"There is no store at {path}: run `bench run SUITE` first, or name one with --store.")
    return path


def open_for_writing(url: str, *, migrations: Path = MIGRATIONS) -> sa.Engine:
    """Open, create or migrate the store. An older one in SQLite is copied first; one in PostgreSQL, which others may use and
    which is not copied, is refused.

    Raises:
        StoreError: the store is from another version, is no database, or cannot be written.
    """
    return _opened_for_writing(url, migrations, asked=False)[0]


def upgrade(url: str, *, migrations: Path = MIGRATIONS) -> Upgrade:
    """Bring a store that is there already to this version; an older one in SQLite is copied first.

    Raises:
        StoreError: as `open_for_writing`, or there is none.
    """
    if _is_sqlite(parse_url(url)):
        existing_path(url)
    engine, done = _opened_for_writing(url, migrations, asked=True)
    engine.dispose()
    return done


def _opened_for_writing(url: str, migrations: Path, *, asked: bool) -> tuple[sa.Engine, Upgrade]:
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    if path is not None:
        _make_folder(path)
    engine = _engine(parsed, read_only=False)
    try:
        with _readable_opening(parsed):
            done = _upgrade(engine, path, migrations, asked=asked)
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
    parsed = parse_url(url)
    if _is_sqlite(parsed):
        existing_path(url)
    engine = _engine(parsed, read_only=True)
    try:
        with _readable_opening(parsed), engine.connect() as connection:
            revision, head = _revisions(connection, migrations)
            if revision is None:
                raise _no_store(connection)
            if revision != head:
                raise _older(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _no_store(connection: sa.Connection) -> StoreError:
    if sa.inspect(connection).get_table_names():
        return StoreError("The database holds other tables and is no Gemmeter store: name another with --store.")
    return StoreError(
        "The database is empty and no Gemmeter store yet: run `bench run SUITE` first, or name another with --store."
    )


def _older(connection: sa.Connection) -> StoreError:
    copy = "which makes a copy first" if connection.dialect.name == "sqlite" else "after copying it with pg_dump"
    return StoreError(f"The store is older than this version: run `bench db upgrade`, {copy}.")


def _revisions(connection: sa.Connection, migrations: Path) -> tuple[str | None, str]:
    """The store's revision (`None` before the first) and this version's."""
    scripts = ScriptDirectory.from_config(_alembic_config(migrations))
    head = scripts.get_current_head() or ""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(f"The store comes from a newer version (revision {revision}): upgrade gemmeter to use it.")
    return revision, head


def _upgrade(engine: sa.Engine, path: Path | None, migrations: Path, *, asked: bool) -> Upgrade:
    """All migrations in one transaction, by one writer alone; one that waited for it finds them done."""
    with engine.connect() as connection:
        revision, head = _revisions(connection, migrations)
        if revision == head:
            return Upgrade(revision, head, None)
        if revision is None and sa.inspect(connection).get_table_names():
            raise _no_store(connection)
        if engine.dialect.name == "postgresql":
            postgresql.check_encoding(connection)
            if revision is not None and not asked:
                raise _older(connection)
    copy = backup(path) if path is not None and revision is not None else None
    with engine.begin() as connection:
        lock(connection, exclusive=True)
        if _revisions(connection, migrations)[0] != head:
            config = _alembic_config(migrations)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return Upgrade(revision, head, copy)


def lock(connection: sa.Connection, *, exclusive: bool) -> None:
    """Let nobody remove what this transaction refers to, or, exclusively, refer to what it removes; in SQLite none can."""
    if connection.dialect.name == "postgresql":
        postgresql.lock(connection, exclusive=exclusive)


def snapshots(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions that read, each of one state of the store."""
    return postgresql.snapshots(engine) if engine.dialect.name == "postgresql" else engine


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
    with snapshots(engine).connect() as connection:
        if connection.dialect.name == "postgresql":
            return postgresql.check(connection)
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        problems += [f"SQLite's integrity check says: {line}" for line in found if line != "ok"]
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        problems += [f"row {row[1]} of {row[0]} has lost its parent in {row[2]}" for row in orphans]
    return problems


def _engine(url: sa.URL, *, read_only: bool) -> sa.Engine:
    if not _is_sqlite(url):
        return postgresql.make_engine(url, read_only=read_only)
    make = partial(sa.create_engine, json_serializer=schema.strict_json)
    path = sqlite_path(url)
    if path is None:
        engine = make(url, poolclass=sa.pool.StaticPool)
    elif read_only:  # not `mode=ro`, which could not undo what a killed writer left half done
        name = f"{path.resolve().as_uri()}?mode=rw"
        engine = make("sqlite://", creator=lambda: sqlite3.connect(name, uri=True, check_same_thread=False))
    else:
        engine = make(url)

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA query_only = {read_only:d}")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _readable_opening(url: sa.URL) -> AbstractContextManager[None]:
    if _is_sqlite(url):
        return readable_errors(f"The store {url.render_as_string()} cannot be opened", "Check the path and its rights.")
    remedy = "Check the server, its name and your rights; PGPASSWORD, ~/.pgpass or BENCH_STORE give a password."
    return readable_errors(f"The store {postgresql.shown_url(url)} cannot be opened", remedy)


def _make_folder(path: Path) -> None:
    folder = path.parent
    try:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            if folder.name == ".bench":
                (folder / ".gitignore").write_text("*\n")
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be made: {error.strerror}. Name another store with --store.") from error


def _alembic_config(migrations: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    return config
