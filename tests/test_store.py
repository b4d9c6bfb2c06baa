"""The store gives back what was put in, and refuses what it cannot hold."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fakes import make_report, store_report

from results import database, schema
from results.errors import StoreError, UsageError
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
