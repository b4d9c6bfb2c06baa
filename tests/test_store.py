"""The store gives back what was put in, and refuses what it cannot hold."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fakes import make_report, store_report

from results import database, schema
from results.errors import StoreError, StoreWriteError, UsageError
from results.records import Score
from results.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/.bench/results.db"


def test_report_round_trip(url: str) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
        found = store.report(report.run.run_id)
    assert found.run == report.run
    assert found.failures == report.failures
    assert found.tags == report.tags
    assert found.events == report.events
    assert sorted(found.measurements, key=lambda m: m.attempt_id) == sorted(report.measurements, key=lambda m: m.attempt_id)
    assert set(found.scores) == set(report.scores)


def test_migrations_make_the_schema(url: str) -> None:
    engine = database.open_for_writing(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []


def test_runs_are_listed_and_resolved(url: str) -> None:
    first, second = make_report(), make_report(run_id="20260302-120000-bbbb")
    with Store.writing(url) as store:
        store_report(store, first)
        store_report(store, second.model_copy(update={"tags": ("release",)}))
        summaries = {one.run_id: one for one in store.runs()}
        assert summaries[first.run.run_id].measured == 7
        assert summaries[first.run.run_id].failed == 1
        assert summaries[first.run.run_id].planned == 10
        assert summaries[first.run.run_id].status == "finished"
        assert store.resolve_run("release") == second.run.run_id
        assert store.resolve_run("20260301") == first.run.run_id
        with pytest.raises(UsageError, match="several runs"):
            store.resolve_run("2026")
        with pytest.raises(UsageError, match="bench show"):
            store.resolve_run("nosuch")


def test_removing_one_run_leaves_the_other_whole(url: str) -> None:
    first, second = make_report(), make_report(run_id="20260302-120000-bbbb")
    with Store.writing(url) as store:
        store_report(store, first)
        store_report(store, second)
        store.remove_run(first.run.run_id)
        assert [one.run_id for one in store.runs()] == [second.run.run_id]
        assert len(store.report(second.run.run_id).measurements) == len(second.measurements)
        assert database.check(store.engine) == []
        store.remove_run(second.run.run_id)
        with store.engine.connect() as connection:
            for table in schema.metadata.sorted_tables:
                assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0, table.name


def test_rating_twice_replaces(url: str) -> None:
    report = make_report()
    request_id = report.measurements[0].requests[0].request_id
    with Store.writing(url) as store:
        store_report(store, report)
        for value in (0.2, 0.8):
            score = Score(request_id=request_id, scorer="person", version="v1", item="user_satisfaction", value=value)
            store.add_scores([score])
        assert [s.value for s in store.report(report.run.run_id).scores if s.scorer == "person"] == [0.8]


def test_reading_never_creates(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="bench run"):
        Store.reading(str(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []


def test_reader_cannot_write(url: str) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
    with Store.reading(url) as store, pytest.raises(StoreError, match="readonly"):
        store.remove_run(report.run.run_id)


def test_database_from_the_future_is_refused(url: str, tmp_path: Path) -> None:
    Store.writing(url).close()
    with sqlite3.connect(tmp_path / ".bench/results.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for opening in (Store.reading, Store.writing):
        with pytest.raises(StoreError, match="newer version"):
            opening(url)


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


def test_an_older_store_is_copied_and_then_upgraded(url: str, tmp_path: Path) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
    later = Path(shutil.copytree(database.MIGRATIONS, tmp_path / "later"))
    (later / "versions" / "0002_later.py").write_text(
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = 'later', '0002', None, None\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE later (x)')\n"
    )
    with pytest.raises(StoreError, match="older than this version: run `bench db upgrade`"):
        database.open_for_reading(url, migrations=later)
    done = database.upgrade(url, migrations=later)
    assert (done.before, done.after) == ("0002", "later")
    assert done.copy is not None
    assert done.copy.parent == tmp_path / ".bench"
    with Store.reading(str(done.copy)) as store:
        assert store.report(report.run.run_id).run == report.run
    with closing(database.open_for_reading(url, migrations=later).raw_connection()) as connection:
        assert connection.cursor().execute("SELECT count(*) FROM later").fetchone() == (0,)
    with pytest.raises(StoreError, match="newer version"):
        Store.reading(url)
    assert database.upgrade(url, migrations=later) == database.Upgrade("later", "later", None)


def test_a_failed_upgrade_leaves_the_store_and_a_copy(url: str, tmp_path: Path) -> None:
    Store.writing(url).close()
    later = Path(shutil.copytree(database.MIGRATIONS, tmp_path / "later"))
    (later / "versions" / "0002_later.py").write_text(
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = 'later', '0002', None, None\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE later (x)')\n"
        "    op.execute('DROP TABLE nosuch')\n"
    )
    with pytest.raises(StoreError, match="no such table: nosuch"):
        database.open_for_writing(url, migrations=later)
    with Store.reading(url) as store, store.engine.connect() as connection:
        assert "later" not in sa.inspect(connection).get_table_names()
    assert len(list((tmp_path / ".bench").glob("*.backup.db"))) == 1


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


def test_writes_that_fail_are_failed_benchmarks(url: str) -> None:
    report = make_report()
    with Store.writing(url) as store:
        store_report(store, report)
        with pytest.raises(StoreWriteError, match="UNIQUE constraint failed") as twice:
            store.add_run(report.run)
        with store.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreWriteError, match="full") as full:
            store_report(store, make_report(run_id="20260302-120000-bbbb"))
        assert (twice.value.exit_code, full.value.exit_code) == (5, 5)
        assert database.check(store.engine) == []


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
