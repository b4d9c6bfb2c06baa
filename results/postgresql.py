"""What a store in PostgreSQL needs of its own: connections, locks, checks. What stores share is left to `results.database`."""

from typing import Any

import sqlalchemy as sa

from results import schema
from results.errors import StoreError

LOCK_TIMEOUT_S = 30
"""How long a writer waits for another, as with SQLite's busy timeout."""
CONNECTION = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
"""Options of libpq, in seconds, so that a server that is gone is noticed; those in the URL win."""
SECRETS = ("password", "sslpassword")
"""Options of libpq that a URL may hold and nobody may see."""
_ADVISORY_LOCK = 0x67656D6D65746572
"""Any number that no other user of the database locks."""


def driver_url(url: sa.URL) -> sa.URL:
    """The URL with the driver that is used, and with its password where SQLAlchemy hides it.

    Raises:
        StoreError: another driver is named, or the password has an @.
    """
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise StoreError(f"A store by the driver {url.drivername!r} is not supported: write postgresql://USER@HOST/DATABASE.")
    if "@" in (url.host or ""):
        raise StoreError("The user name or password in the store's URL has an @: write it as %40.")
    given = url.query.get("password")
    password = url.password or (given if isinstance(given, str) else None)
    return url.set(drivername="postgresql+psycopg", password=password).difference_update_query(["password"])


def shown_url(url: sa.URL) -> str:
    """The URL as PostgreSQL's own tools take it, without its secrets."""
    query = url.difference_update_query(SECRETS).query
    return sa.URL.create("postgresql", url.username, None, url.host, url.port, url.database, query).render_as_string()


def make_engine(url: sa.URL, *, read_only: bool) -> sa.Engine:
    """An engine that tries a connection before it uses it again: hours may lie between two cases.

    Raises:
        StoreError: the driver is not installed.
    """
    url = url.set(query={**CONNECTION, **url.query})
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, json_serializer=schema.strict_json)
    except ImportError as error:
        remedy = 'pip install "gemmeter[postgresql]"'
        raise StoreError(f"A store in PostgreSQL needs the package psycopg, which is not installed: {remedy}.") from error

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
        connection.execute("SET idle_in_transaction_session_timeout = '10min'")  # a suspended writer must not block the others
        connection.commit()

    return engine.execution_options(postgresql_readonly=True) if read_only else engine


def snapshots(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions in which all queries see the same state, as in SQLite, and which change nothing."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def lock(connection: sa.Connection, *, exclusive: bool) -> None:
    """Take the store's lock until the transaction ends.

    Those who add runs share it. Who removes shared rows (cases, environments) or migrates has it alone: between "is it there?"
    and "refer to it" nothing goes away.
    """
    take = sa.func.pg_advisory_xact_lock if exclusive else sa.func.pg_advisory_xact_lock_shared
    connection.execute(sa.select(take(_ADVISORY_LOCK)))


def check_encoding(connection: sa.Connection) -> None:
    """Refuse a database that cannot hold every text.

    Raises:
        StoreError: its encoding is not UTF-8.
    """
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise StoreError(
            f"The database's encoding is {encoding}: create one with `createdb --encoding=UTF8 --template=template0`."
        )


def check(connection: sa.Connection) -> list[str]:
    """Rows without their parents, and what cannot be read, one sentence each. Reads every value of every table."""
    problems = []
    for table in schema.metadata.sorted_tables:
        for key in table.foreign_keys:
            count = sa.select(sa.func.count()).select_from(table.outerjoin(key.column.table, key.parent == key.column))
            lost = connection.execute(count.where(key.parent.is_not(None), key.column.is_(None))).scalar_one()
            if lost:
                problems.append(f"{lost} rows of {table.name} have lost their parent in {key.column.table.name}")
        try:
            with connection.begin_nested():
                whole = sa.func.sum(sa.func.length(sa.cast(sa.literal_column(table.name), sa.Text)))
                connection.execute(sa.select(whole).select_from(table))
        except sa.exc.DBAPIError as error:
            problems.append(f"{table.name} cannot be read: {str(error.orig).partition(chr(10))[0]}")
    return problems
