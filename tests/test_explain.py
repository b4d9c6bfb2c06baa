"""`bench explain` on a store with exact numbers."""

import json

import pytest
from click.testing import CliRunner
from fakes import make_failure, make_measurement, make_report, make_request, store_report
from terminal import Outcome, same_as_golden

from bench.commands.explain import explain
from results.definitions import TOOLS
from results.errors import UsageError
from results.records import Request
from results.store import Store


def served(request_id: str, tokens: int, **changes: object) -> Request:
    """A streamed answer: a role chunk after 10 ms, tokens from 100 ms on every 20 ms, one pause, a finish and a usage chunk."""
    content = [0.1 + 0.02 * k + (0.15 if k >= tokens // 2 else 0.0) for k in range(tokens)]
    times = (0.01, *content, content[-1] + 0.005, content[-1] + 0.006)
    fields: dict[str, object] = {
        "scheduled_s": -0.4, "event_times_s": times, "event_tokens": (0, *[1] * tokens, 0, 0), "first_content_s": content[0],
        "last_content_s": content[-1], "output_tokens": tokens, "token_source": "usage",
        "values": {"connect_s": 0.001, "server_prefill_s": 0.06, "server_decode_s": 0.92, "server_decode_tps": 42.0,
                   "server_total_s": 0.99, "cached_prompt_tokens": 4.0},
    }  # fmt: skip
    return make_request(request_id, **(fields | changes))  # type: ignore[arg-type]


FAILED = "disconnected: \x1b[31mthe server\u202e went\x07 away"
REQUESTS = (
    served("qaa1", 40),
    served("qaa12", 4),
    make_request("qbb1", tokens=5, error=FAILED, output_tokens=None, finish_reason="error"),
    make_request("qcc1", error="unsent: 20 had failed in a row", event_times_s=(), event_tokens=(), first_content_s=None,
                 last_content_s=None, output_tokens=None, finish_reason="error"),
    make_request("qdd1", tokens=3, event_times_s=(), event_tokens=()),
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("utc")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("store") / "results.db")
    report = make_report()
    measured = make_measurement("measured", report.run.planned[0].case, requests=REQUESTS)
    crashed = make_failure("crashed", report.run.planned[2].case, requests=(served("qff1", 4),))
    with Store.writing(path) as store:
        store_report(store, report.model_copy(update={"measurements": (measured,), "failures": (crashed,), "scores": ()}))
    return path


def run_explain(*arguments: str, columns: int = 120) -> Outcome:
    result = CliRunner().invoke(explain, arguments, standalone_mode=False, env={"COLUMNS": str(columns)})
    if isinstance(result.exception, UsageError):
        return Outcome(result.exception.exit_code, result.stdout, str(result.exception))
    if result.exception:
        raise result.exception
    return Outcome(int(result.return_value or 0), result.stdout, "")


@pytest.mark.parametrize("columns", [80, 120])
def test_golden(url: str, columns: int) -> None:
    found = run_explain("qaa1", "--store", url, columns=columns)
    assert found.code == 0
    assert max(map(len, found.output.splitlines())) <= columns
    same_as_golden(f"explain-{columns}.txt", found.output)


def test_golden_of_a_failed_request(url: str) -> None:
    same_as_golden("explain-failed.txt", run_explain("qbb", "--store", url, columns=100).output)


def test_few_events_are_not_folded(url: str) -> None:
    text = run_explain("qaa12", "--store", url).output
    assert "⋮" not in text
    assert "slowest gap" in text


def test_json(url: str) -> None:
    found = json.loads(run_explain("qaa1", "--json", "--store", url).output)
    assert found["request"]["request_id"] == "qaa1"
    assert {"prompt", "output", "event_times_s"} & found["request"].keys() == set()
    assert len(found["timeline"]) == 3 + 43
    assert found["timeline"][0] == {"at_s": -0.4, "what": "scheduled", "gap_s": None, "tokens": None, "rank": None}
    assert [one["what"] for one in found["timeline"] if one["rank"] == 1] == ["content"]
    assert found["server"][0]["difference"] == pytest.approx(0.04)
    assert [tool["tool"] for tool in found["tools"]] == [tool.name for tool in TOOLS]
    vllm = found["tools"][1]["figures"]
    assert vllm["ttft_s"]["value"] == pytest.approx(0.011)
    assert vllm["decode_tps"] == {
        "name": "", "formula": "", "value": None, "reason": "It reports the throughput of a whole run only.",
    }  # fmt: skip


def test_a_whole_id_wins_over_longer_ones(url: str) -> None:
    assert "qaa1 " in run_explain("qaa1", "--store", url).output.splitlines()[0] + " "
    assert "qaa12" in run_explain("qaa12", "--store", url).output


@pytest.mark.parametrize(("reference", "said"), [("nosuch", "No request"), ("qaa", "More than one"), ("", "More than one")])
def test_unknown_and_ambiguous_ids_are_wrong_usage(url: str, reference: str, said: str) -> None:
    found = run_explain(reference, "--store", url)
    assert (found.code, found.output) == (2, "")
    assert said in found.error


def test_a_failed_request_is_explained(url: str) -> None:
    text = run_explain("qbb1", "--store", url).output
    assert "disconnected: the server went away (the connection ended before the answer did)" in text
    assert "None has any. The request failed (disconnected)." in text
    assert not {"\x1b", "\u202e", "\x07"} & set(text)


def test_a_request_that_was_never_sent(url: str) -> None:
    text = run_explain("qcc1", "--store", url).output
    assert "Sent     never" in text
    assert "never sent: too many had failed before" in text
    assert "no event of the answer was kept" in text


def test_a_request_without_events(url: str) -> None:
    text = run_explain("qdd1", "--store", url).output
    assert "no event of the answer was kept" in text
    assert "Gemmeter" in text


def test_a_request_of_a_case_that_failed_later(url: str) -> None:
    assert "the case failed after this request: crash" in run_explain("qff1", "--store", url).output


def test_what_was_stored_comes_back(url: str) -> None:
    with Store.reading(url) as store:
        for one in REQUESTS:
            origin, found = store.find_request(one.request_id)
            assert found == one
            assert (origin.run_id, origin.process, origin.failure) == ("20260301-120000-aaaa", 0, None)
            assert [warning.kind for warning in origin.warnings] == ["cpu_contention"]
