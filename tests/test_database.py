"""Opening a store: URLs, migrations, what is refused, and what a database says in its own words."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fakes import make_report, make_run, store_report

from results import database, schema
from results.errors import StoreError, StoreWriteError
from results.store import Store

if TYPE_CHECKING:
    from postgres import Server

pytest_plugins = ["postgres"]

FIRST = "20260301-120000-aaaa"
HEAD = "0003"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/.bench/results.db"


def later_migrations(folder: Path, *further: str) -> Path:
    """Migrations with one more, which makes a table `later` and does what else is said."""
    later = Path(shutil.copytree(database.MIGRATIONS, folder / "later"))
    lines = [
        "from alembic import op",
        f"revision, down_revision, branch_labels, depends_on = 'later', '{HEAD}', None, None",
        "def upgrade():",
        *(f"    op.execute('{statement}')" for statement in ("CREATE TABLE later (x INTEGER)", *further)),
    ]
    (later / "versions" / "9999_later.py").write_text("\n".join(lines))
    return later


def shape(engine: sa.Engine) -> dict[str, Any]:
    """Everything that a database says of its tables, in an order of its own."""
    inspector = sa.inspect(engine)
    return {
        name: {
            "columns": {
                column.pop("name"): {key: str(value) for key, value in column.items()}
                for column in map(dict, inspector.get_columns(name))
            },
            "key": inspector.get_pk_constraint(name),
            "parents": sorted(inspector.get_foreign_keys(name), key=lambda key: str(key["name"])),
            "indexes": sorted(inspector.get_indexes(name), key=lambda index: str(index["name"])),
        }
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


# ---- migrations, in each database


def test_migrations_make_the_schema(any_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    engine = database.open_for_writing(any_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    migrated = shape(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
        for table in migrated:
            connection.exec_driver_sql(f"DROP TABLE {table}" + (" CASCADE" if engine.dialect.name == "postgresql" else ""))
        schema.metadata.create_all(connection)
    assert shape(engine) == migrated
    if engine.dialect.name == "postgresql":
        columns = [column for table in migrated.values() for column in table["columns"].values()]
        assert {"COLLATE" in column["type"] for column in columns if column["type"].startswith("VARCHAR")} == {True}


@pytest.mark.slow
@pytest.mark.parametrize("before", ["0001", "0002"])
def test_a_store_of_an_older_revision_keeps_everything(any_url: str, tmp_path: Path, before: str) -> None:
    old = Path(shutil.copytree(database.MIGRATIONS, tmp_path / "old"))
    for script in (old / "versions").glob("0*.py"):
        if script.name > f"{before}_~":
            script.unlink()
    older = database.open_for_writing(any_url, migrations=old)
    there = shape(older)
    with Store.writing(str(tmp_path / "new.db")) as new:
        new.add_report(make_report())
        expected = new.report(FIRST)
    with Store.reading(str(tmp_path / "new.db")) as new, new.engine.connect() as source, older.begin() as target:
        for table in schema.metadata.sorted_tables:
            if table.name in there:
                columns = there[table.name]["columns"]
                rows = source.execute(sa.select(table)).mappings()
                found = [{name: value for name, value in row.items() if name in columns} for row in rows]
                target.execute(table.insert(), found)
    older.dispose()
    done = database.upgrade(any_url)
    assert (done.before, done.after) == (before, HEAD)
    with Store.writing(any_url) as store:
        found = store.report(FIRST)
        assert database.check(store.engine) == []
    if before == "0001":
        expected = expected.model_copy(
            update={"measurements": tuple(m.model_copy(update={"facts": {}}) for m in expected.measurements)}
        )
    assert found == expected


def test_an_older_store_is_upgraded_when_it_is_asked_for(any_url: str, tmp_path: Path) -> None:
    report = make_report()
    with Store.writing(any_url) as store:
        store_report(store, report)
    later = later_migrations(tmp_path)
    with pytest.raises(StoreError, match="older than this version: run `bench db upgrade`"):
        database.open_for_reading(any_url, migrations=later)
    shared = any_url.startswith("postgresql")
    if shared:
        with pytest.raises(StoreError, match=r"run `bench db upgrade`, after copying it with pg_dump\.$"):
            database.open_for_writing(any_url, migrations=later)
    done = database.upgrade(any_url, migrations=later)
    assert (done.before, done.after) == (HEAD, "later")
    if shared:
        assert done.copy is None
    else:
        assert done.copy is not None
        assert done.copy.parent == tmp_path / ".bench"
        with Store.reading(str(done.copy)) as store:
            assert store.report(FIRST).run == report.run
    with database.open_for_reading(any_url, migrations=later).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM later").scalar_one() == 0
    for opening in (Store.reading, Store.writing, database.upgrade):
        with pytest.raises(StoreError, match="newer version"):
            opening(any_url)
    assert database.upgrade(any_url, migrations=later) == database.Upgrade("later", "later", None)


def test_a_failed_upgrade_leaves_the_store_and_a_copy(any_url: str, tmp_path: Path) -> None:
    Store.writing(any_url).close()
    later = later_migrations(tmp_path, "DROP TABLE nosuch")
    with pytest.raises(StoreError, match=r"cannot be opened: .*nosuch"):
        database.upgrade(any_url, migrations=later)
    with Store.reading(any_url) as store, store.engine.connect() as connection:
        assert "later" not in sa.inspect(connection).get_table_names()
    assert len(list((tmp_path / ".bench").glob("*.backup.db"))) == (0 if any_url.startswith("postgresql") else 1)


# ---- SQLite


def test_reading_never_creates(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="bench run"):
        Store.reading(str(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []


def test_foreign_database_and_rubbish_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rubbish.db").write_bytes(b"not a database at all" * 100)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    for name in ("rubbish.db", "other.db"):
        for opening in (Store.reading, Store.writing):
            with pytest.raises(StoreError):
                opening(str(tmp_path / name))


def test_a_foreign_database_stays_as_it_was(tmp_path: Path) -> None:
    for mode in ("wal", "delete"):
        path = tmp_path / f"{mode}.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute("CREATE TABLE t (x)")
        before = path.read_bytes()
        for opening in (Store.reading, Store.writing, database.upgrade):
            with pytest.raises(StoreError, match="no Gemmeter store"):
                opening(str(path))
            assert path.read_bytes() == before
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_a_new_store_has_the_journal_mode_that_is_safe_here(url: str, tmp_path: Path) -> None:
    Store.writing(url).close()
    with closing(sqlite3.connect(tmp_path / ".bench/results.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal" if database.wal_is_safe() else "delete",)


def test_damage_met_while_reading_is_one_sentence(url: str, tmp_path: Path) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
    path = tmp_path / ".bench/results.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE name IN ('runs', 'attempts')").fetchall()
    content = bytearray(path.read_bytes())
    for (page,) in pages:
        content[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(content)
    with Store.reading(url) as store:
        for read in (
            store.runs,
            store.planned_cases,
            lambda: store.resolve_run("latest"),
            lambda: store.report(report.run.run_id),
        ):
            with pytest.raises(StoreError, match=r"^The store cannot be read: .*malformed\. .*`bench db check`\.$"):
                read()


@pytest.mark.parametrize("value", ["{", '{"model": 3}'])
def test_rows_that_make_no_record_are_one_sentence(url: str, tmp_path: Path, value: str) -> None:
    with Store.writing(url) as store:
        store_report(store, make_report())
    with closing(sqlite3.connect(tmp_path / ".bench/results.db")) as connection, connection:
        connection.execute("UPDATE cases SET facts = ?", (value,))
    with Store.reading(url) as store, pytest.raises(StoreError, match="The store cannot be read"):
        store.planned_cases()


def test_a_locked_store_is_one_sentence(url: str, tmp_path: Path) -> None:
    with Store.writing(url) as store:
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        with closing(sqlite3.connect(tmp_path / ".bench/results.db", isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match=r"cannot be read: database is locked\. End what holds it"):
                store.runs()
            with pytest.raises(StoreWriteError, match=r"could not be written: database is locked\. Free it"):
                store.remove_run("x")


def test_backup_is_whole_and_never_overwrites(url: str, tmp_path: Path) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
    copy = database.backup(tmp_path / ".bench/results.db", tmp_path / "copy.db")
    with Store.reading(str(copy)) as store:
        assert len(store.report(report.run.run_id).measurements) == 7
    with pytest.raises(StoreError, match="exists already"):
        database.backup(tmp_path / ".bench/results.db", copy)


@pytest.mark.parametrize(
    ("version", "safe"),
    [((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 50, 6), False), ((3, 50, 7), True), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 60, 0), True)],
)  # fmt: skip
def test_wal_only_where_sqlite_is_mended(version: tuple[int, int, int], safe: bool) -> None:
    assert database.wal_is_safe(version) is safe


# ---- PostgreSQL


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5433/db?sslmode=require", "postgresql://me@host:5433/db?sslmode=require"),
        ("postgres://me:sec/ret@host/db", "postgresql://me@host/db"),
        ("postgresql+psycopg://host/db?password=secret&sslpassword=secret", "postgresql://host/db"),
        ("postgresql:///db", "postgresql:///db"),
        (".bench/results.db", ".bench/results.db"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert database.shown(url) == shown
    assert "secret" not in str(database.parse_url(url)).replace("sslpassword=secret", "")
    assert (database.sqlite_path(database.parse_url(url)) is None) is url.startswith("postgres")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://me:sec@ret@host/db", "write it as %40"),
        ("postgresql://me@host:secret/db", "not a database URL"),
        ("postgresql+psycopg2://me:secret@host/db", "psycopg2"),
        ("mysql://me:secret@host/db", "'mysql' is not supported"),
        ("sqlite+pysqlcipher://:secret@/x.db", "'sqlite\\+pysqlcipher' is not supported"),
        ("://secret", "not a database URL"),
    ],
)
def test_urls_that_mean_no_store_are_refused_without_telling_secrets(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem) as found:
        database.parse_url(url)
    assert "sec" not in str(found.value)
    assert "secret" not in repr(found.value.__cause__)


def test_a_copy_of_a_server_is_the_servers_own() -> None:
    with pytest.raises(StoreError, match=r"pg_dump --format=custom --file=results.dump postgresql://me@host/db\.$") as found:
        database.existing_path("postgresql://me:secret@host/db")
    assert found.value.exit_code == 2


@pytest.mark.slow
def test_a_missing_driver_is_one_sentence() -> None:
    code = "import sys; sys.modules['psycopg'] = None; from results.store import Store; Store.reading('postgresql://h/d')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        'StoreError: A store in PostgreSQL needs the package psycopg, which is not installed: pip install "gemmeter[postgresql]".'
        in done.stderr
    )


@pytest.mark.slow
def test_a_server_that_refuses_is_one_sentence(postgresql_server: "Server") -> None:
    wrong = postgresql_server.url("postgres").replace(postgresql_server.password, "secret")
    nobody = f"postgresql://postgres:secret@localhost:{1}/db"
    for url, reason in (
        (wrong, "password authentication failed"),
        (nobody, "refused"),
        (postgresql_server.url("nosuch"), "does not exist"),
    ):
        for opening in (Store.reading, Store.writing):
            with pytest.raises(
                StoreError, match=rf"^The store postgresql://postgres@\S+ cannot be opened: .*{reason}.*\. Check the server"
            ) as found:
                opening(url)
            assert "secret" not in str(found.value)
            assert postgresql_server.password not in str(found.value)
            assert "\n" not in str(found.value)


@pytest.mark.slow
def test_an_empty_database_is_made_a_store_by_writing_alone(postgresql_url: str) -> None:
    with pytest.raises(StoreError, match=r"^The database is empty .*`bench run SUITE` first"):
        Store.reading(postgresql_url)
    assert database.upgrade(postgresql_url) == database.Upgrade(None, HEAD, None)
    Store.reading(postgresql_url).close()


@pytest.mark.slow
def test_a_database_of_others_or_of_another_encoding_is_refused(postgresql_url: str, new_database: Callable[..., str]) -> None:
    with closing(sa.create_engine(database.parse_url(postgresql_url)).raw_connection()) as connection:
        connection.cursor().execute("CREATE TABLE t (x INTEGER)")
        connection.commit()
    for opening in (Store.reading, Store.writing, database.upgrade):
        with pytest.raises(StoreError, match="no Gemmeter store"):
            opening(postgresql_url)
    latin = new_database("ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(StoreError, match="encoding is LATIN1: create one with `createdb --encoding=UTF8"):
        Store.writing(latin)


@pytest.mark.slow
def test_a_store_may_lie_in_a_schema_of_its_own(postgresql_url: str) -> None:
    with closing(sa.create_engine(database.parse_url(postgresql_url)).raw_connection()) as connection:
        connection.cursor().execute("CREATE TABLE t (x INTEGER); CREATE SCHEMA bench")
        connection.commit()
    with Store.writing(f"{postgresql_url}?options=-csearch_path%3Dbench") as store:
        store.add_report(make_report())
        assert database.check(store.engine) == []
        assert len(store.runs()) == 1


@pytest.mark.slow
def test_rows_without_parents_are_found(postgresql_url: str) -> None:
    with Store.writing(postgresql_url) as store:
        store.add_report(make_report())
        with store.engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # as a careless restore does
            connection.exec_driver_sql("DELETE FROM runs")
        problems = database.check(store.engine)
    assert "8 rows of attempts have lost their parent in runs" in problems
    assert len(problems) == 4


@pytest.mark.slow
def test_who_waits_too_long_is_told(postgresql_url: str) -> None:
    with Store.writing(postgresql_url) as store, Store.writing(postgresql_url) as other, other.engine.begin() as holding:
        with store.engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "30s"
            connection.exec_driver_sql("SET lock_timeout = '50ms'")
            connection.commit()
        database.lock(holding, exclusive=False)
        store.add_run(make_run())  # who only adds need not wait
        with pytest.raises(StoreWriteError, match=r"could not be written: canceling statement due to lock timeout\. "):
            store.remove_run(FIRST)


@pytest.mark.slow
def test_a_connection_that_was_cut_between_two_cases_is_made_anew(postgresql_url: str, postgresql_server: "Server") -> None:
    with Store.writing(postgresql_url) as store:
        store.add_run(make_run())
        postgresql_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 'test%'"
        )
        store.tag(FIRST, ["later"])
        assert store.report(FIRST).tags == ("later",)
