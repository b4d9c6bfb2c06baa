"""A person's rating is stored beside the heuristic scores, and nothing else is."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import make_report, store_report

from bench.commands.rate import rate
from results.errors import StoreError, UsageError
from results.records import Score
from results.store import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/results.db"
    with Store.writing(url) as store:
        store_report(store, make_report())
    return url


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(rate, [*arguments, "--store", url])


def ratings(url: str) -> list[Score]:
    with Store.reading(url) as store:
        return [score for score in store.report(store.resolve_run("latest")).scores if score.scorer == "person"]


def test_rating_is_stored_and_replaced(url: str) -> None:
    request_id = make_report().measurements[-1].requests[1].request_id
    assert run(url, request_id, "0.3").exit_code == 0
    result = run(url, request_id, "0.8")
    assert result.output == f"Request {request_id}: user_satisfaction 0.8\n"
    expected = Score(request_id=request_id, scorer="person", version="v1", item="user_satisfaction", value=0.8)
    assert ratings(url) == [expected]


@pytest.mark.parametrize("value", ["1.01", "nan", "inf", "much", "1e9"])
def test_values_outside_0_to_1_are_wrong_usage(url: str, value: str) -> None:
    assert run(url, "20260301-120000-aaaa-q-1", value).exit_code == 2
    assert ratings(url) == []


@pytest.mark.parametrize("reference", ["20260301-120000-aaaa-q", "nosuch"])
def test_request_must_be_one(url: str, reference: str) -> None:
    result = run(url, reference, "0.5")
    assert isinstance(result.exception, UsageError)
    assert ratings(url) == []


def test_rating_creates_no_store(tmp_path: Path) -> None:
    result = run(str(tmp_path / "none.db"), "r", "0.5")
    assert isinstance(result.exception, StoreError)
    assert list(tmp_path.iterdir()) == []
