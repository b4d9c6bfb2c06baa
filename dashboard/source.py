"""The store behind the pages, opened read-only and cached. What is made of its records is left to `dashboard.queries`."""

import os

import streamlit as st

from results.coverage import Covered
from results.database import DEFAULT_URL, parse_url, sqlite_path
from results.reading import RunSummary
from results.records import Report
from results.store import Store


def summaries() -> list[RunSummary]:
    """The runs of the store, newest first.

    Raises:
        StoreError: the store is missing, of another version, or cannot be read.
    """
    return _store().runs()


def resolve(reference: str) -> str:
    """The id of the run that a link means; see `Store.resolve_run`."""
    return _store().resolve_run(reference)


def coverage() -> list[Covered]:
    """Every case that any run planned, and how it ended."""
    return _store().coverage()


def report(summary: RunSummary) -> Report:
    """All of one run, read again when its status, counts or tags change."""
    return _report(_store(), (*_location(), summary))


def _store() -> Store:
    return _opened(*_location())


def _location() -> tuple[str, int]:
    """The store's URL, and its file's identity, so that a store that was removed and made anew is opened anew."""
    url = os.environ.get("BENCH_STORE") or DEFAULT_URL
    path = sqlite_path(parse_url(url))
    return url, path.stat().st_ino if path and path.exists() else 0


@st.cache_resource(max_entries=2, show_spinner=False)
def _opened(url: str, file: int) -> Store:
    return Store.reading(url)


# A resource and not data: records are frozen, so that sessions can share one, and a large run need not be copied at each click.
# Scores may be added to a run without changing its counts, hence the time limit.
@st.cache_resource(max_entries=8, ttl=60, show_spinner="Reading the run …")
def _report(_store: Store, key: tuple[str, int, RunSummary]) -> Report:
    return _store.report(key[-1].run_id)
