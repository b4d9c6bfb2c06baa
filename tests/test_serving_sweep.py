"""A serving sweep over a report: the loads that come next carry what their point of the suite asks for."""

import pytest

from bench.expansion import Machine, expand
from bench.serving_sweep import conclusions, further_cases
from bench.suite import Suite
from bench.weights import served
from results.cases import PlannedCase
from results.records import Measurement, Report
from tests.fakes import make_measurement, make_request, make_run

SUITE = Suite.model_validate(
    {
        "name": "s",
        "question": "How much?",
        "defaults": {"engine": "openai", "server": "vllm", "processes": 1},
        "include": [{"model": "a"}, {"model": "b", "iterations": 2000}],
        "serving": {"steps": 1},
    }
)
PLANNED = expand(SUITE, Machine("cpu", 2), lambda reference, _: served(reference)).planned


def report_of(*planned: PlannedCase) -> Report:
    """One at a time it answers once a second, 32 at once four times; 20 s each."""

    def measured(one: PlannedCase) -> Measurement:
        gap = 1.0 if one.case.load and one.case.load.concurrency == 1 else 0.25
        name = one.case.case_id
        requests = tuple(
            make_request(f"{name}-{n}", index=n, sent_s=n * gap, tokens=2, ttft_s=gap / 2, tpot_s=gap / 2)
            for n in range(round(20 / gap))
        )
        return make_measurement(name, one.case, requests=requests)

    run = make_run(*planned, suite_source=SUITE.source())
    return Report(run=run, measurements=tuple(measured(one) for one in planned))


def test_further_loads_have_the_requests_that_their_point_asks_for() -> None:
    assert [one.iterations for one in PLANNED] == [4, 128, 2000, 2000]
    further = further_cases(SUITE, report_of(*PLANNED))
    assert [(one.model, one.iterations, one.case.load and one.case.load.rate) for one in further] == [
        ("a", 100, pytest.approx(2.5)),
        ("b", 2000, pytest.approx(2.5)),
    ]
    backwards = further_cases(SUITE, report_of(*PLANNED[::-1]))
    assert sorted(one.iterations for one in backwards) == [100, 2000]


def test_a_sentence_for_each_configuration() -> None:
    told = conclusions(report_of(*PLANNED))
    assert [one.split(": ")[:2] for one in told] == [["a openai on vllm tg32", "So far"], ["b openai on vllm tg32", "So far"]]
    assert "It answers 1/s one at a time and 4/s with 32 at once." in told[0]
    assert conclusions(Report(run=make_run())) == []
