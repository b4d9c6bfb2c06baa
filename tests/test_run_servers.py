"""`bench run` against servers that somebody else started: what is stored and what is not, and every way in which a server fails."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_server import GoldenServer
from ollama_standin import OllamaStandin
from queue_server import QueueServer
from terminal import Outcome, run_bench

from bench.engines.server_process import free_port
from results.metrics import process_value, request_values
from results.records import Measurement, Report
from results.store import Store

pytestmark = pytest.mark.slow
KEY = "sk-golden-0123456789"
SECRET_PATH = "a-path-that-nobody-may-know"
DEFAULTS: dict[str, Any] = {
    "engine": "openai", "server": "mine", "model": "queue", "processes": 1, "iterations": 6, "min_seconds": 0, "output_tokens": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_suite(server: dict[str, Any] | None = None, include: Any = None, **fields: Any) -> None:
    suite = {"name": "s", "question": "?", "servers": {"mine": server or {}}, "include": include or [{}]}
    suite["defaults"] = DEFAULTS | fields.pop("defaults", {})
    Path("s.yaml").write_text(yaml.safe_dump(suite | fields))


def run(url: str, *arguments: str) -> Outcome:
    return run_bench("run", "s.yaml", "--server", f"mine={url}", *arguments)


def the_report() -> Report:
    with Store.reading("sqlite:///.bench/results.db") as store:
        return store.report(store.resolve_run("latest"))


def only_measurement() -> Measurement:
    [measurement] = the_report().measurements
    return measurement


def warnings(measurement: Measurement) -> dict[str, dict[str, Any]]:
    return {one.kind: dict(one.facts) for one in measurement.warnings}


def error_kinds(measurement: Measurement) -> Counter[str]:
    return Counter((request.error or "ok").partition(":")[0] for request in measurement.requests)


@pytest.fixture(scope="module")
def golden() -> Iterator[GoldenServer]:
    with GoldenServer() as server:
        yield server


# ---- what is stored, and what is not


@pytest.mark.parametrize("by", ["suite", "--server", "--set"])
def test_a_server_is_measured_and_neither_its_url_nor_its_key_is_kept(
    golden: GoldenServer, by: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    url = f"{golden.url}/{SECRET_PATH}/v1"
    model = "golden?tokens=8&ttft_s=0.1&tpot_s=0.02"
    write_suite(
        server={"api_key_env": "MY_KEY"} | ({"url": url} if by == "suite" else {}), defaults={"model": model, "output_tokens": 8}
    )
    Path("s.yaml").rename(here.parent / "s.yaml")  # the suite itself may name the URL
    option = {"suite": (), "--server": ("--server", f"mine={url}"), "--set": ("--set", f"server={url}")}[by]
    done = run_bench("run", str(here.parent / "s.yaml"), *option)
    assert (done.code, done.error) == (0, "")
    measurement = only_measurement()
    record = golden.records()[""]
    head = record["head"]
    assert (KEY in head) == (by != "--set")  # a server without a name has no key
    assert SECRET_PATH in head
    assert [request.output_tokens for request in measurement.requests] == [8] * 6
    written = [time for time, tokens in record["writes"] if tokens]
    last = measurement.requests[-1]
    assert request_values("ttft_s", last)[0] == pytest.approx(written[0] - record["received"], abs=0.02)
    assert request_values("tpot_s", last)[0] == pytest.approx((written[-1] - written[0]) / 7, abs=0.004)
    assert {"remote_session"} <= warnings(measurement).keys()

    shown = [done.output]
    shown += [run_bench("show", "latest", *options).output for options in ((), ("--json",), ("--requests",), ("--outputs",))]
    shown += [run_bench("export", "latest", "--format", kind).output for kind in ("json", "csv", "md", "html")]
    assert all(len(text) > 100 for text in shown)
    kept = [path.read_bytes() for path in here.rglob("*") if path.is_file()]
    assert len(kept) >= 1
    for secret in (KEY, SECRET_PATH, golden.url):
        assert not any(secret in text for text in shown)
        assert not any(secret.encode() in data for data in kept)


def test_a_run_goes_on_at_the_server_that_it_began_with_and_no_other() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    write_suite(include=[{"output_tokens": 4}, {"output_tokens": 6}])
    assert run(url).code == 5
    assert [failure.kind for failure in the_report().failures] == ["engine_error"] * 2
    again = ("run", "--resume", "latest", "--retry-failed")
    done = run_bench(*again)
    assert (done.code, done.error) == (2, "The URL of server mine is not stored: give it again with --server mine=URL.")
    with QueueServer() as other:
        done = run_bench(*again, "--server", f"mine={other.url}")
    assert done.code == 2
    assert "is not the URL that the run began with" in done.error
    assert the_report().measurements == ()
    with QueueServer(port=port):
        done = run_bench(*again, "--server", f"mine={url}")
    assert (done.code, done.error) == (0, "")
    assert len(the_report().measurements) == 2


@pytest.mark.parametrize("policy", ["none", "hash"])
def test_content_is_kept_by_policy_under_load_too(policy: str, here: Path) -> None:
    write_suite(content=policy, defaults={"concurrency": 2})
    with QueueServer() as server:
        assert run(server.url).code == 0
    requests = only_measurement().requests
    assert {request.content_policy for request in requests} == {policy}
    assert all((request.prompt is None) == (policy == "none") for request in requests)
    database = (here / ".bench/results.db").read_bytes()
    assert b"w0 w1 w2" not in database
    assert b"machine learning" not in database


def test_quality_is_judged_over_http() -> None:
    write_suite(quality=["heuristic-v1"], quality_tokens=6, defaults={"iterations": 1})
    with QueueServer() as server:
        done = run(server.url)
    assert (done.code, done.error) == (0, "")
    report = the_report()
    [judged] = [one for one in report.measurements if report.run.plan_of(one.case_id).case.purpose == "quality"]
    assert [request.output for request in judged.requests] == [" w0 w1 w2 w3 w4 w5"] * 5
    assert len(report.scores) == 5 * 4
    assert {report.run.plan_of(one.case_id).case.config_id for one in report.measurements} == {
        report.run.planned[0].case.config_id
    }


# ---- failures


@pytest.mark.parametrize(
    ("behaviour", "suite", "kind", "words"),
    [
        (None, {}, "engine_error", "does not answer: nothing listens on port"),
        ({"answers": "html"}, {}, "engine_error", "something else than JSON: check its URL"),
        ({}, {"defaults": {"model": "quee"}}, "missing_weights", "has no model 'quee', did you mean 'queue'?"),
        ({"key": KEY}, {}, "engine_error", "refused the key (401"),
        ({}, {"server": {"api_key_env": "NOT_SET"}}, "engine_error", "set the environment variable NOT_SET"),
        ({}, {"defaults": {"prompt_tokens": 16}}, "unsupported", "name a tokenizer folder, or leave prompt_tokens out"),
        ({}, {"defaults": {"prompt_tokens": 16, "concurrency": 2}}, "unsupported", "name a tokenizer folder, or leave it out"),
        ({}, {"server": {"preset": "nvidia"}}, "unsupported", "set workload.prompt_format to chat"),
        ({}, {"server": {"tokenizer": "/nowhere"}}, "unsupported", "holds no tokenizer"),
        ({}, {"defaults": {"engine": "ollama"}}, "engine_error", "answered /api/version with 404"),
        ({"answers": "silence"}, {"defaults": {"timeout_s": 2}}, "timeout", "more than 2 s: raise timeout_s"),
        ({"fail_every": 1}, {}, "engine_error", "Every request failed (http_5xx: 503"),
        ({"fail_every": 1}, {"defaults": {"concurrency": 2}}, "engine_error", "Every request failed (http_5xx: 503"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_server_is_one_sentence(
    behaviour: dict[str, Any] | None, suite: dict[str, Any], kind: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_suite(**suite)
    if behaviour is None:
        done = run(f"http://127.0.0.1:{free_port()}/v1")
    else:
        with QueueServer(**behaviour) as server:
            done = run(server.url)
    assert (done.code, done.error) == (5, "")
    assert "Traceback" not in done.output + capfd.readouterr().err
    [failure] = the_report().failures
    assert (failure.kind, words in failure.message) == (kind, True), failure.message
    assert failure.message.count(". ") <= 1
    assert len(failure.requests) == (6 if "fail_every" in (behaviour or {}) else 0)  # those that failed are kept


def test_a_key_that_a_server_repeats_is_not_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-the-wrong-one")
    write_suite(server={"api_key_env": "MY_KEY"})
    with QueueServer(key=KEY) as server:
        assert run(server.url).code == 5
    assert "Incorrect key: ***" in the_report().failures[0].message
    assert not any(b"sk-the-wrong-one" in path.read_bytes() for path in here.rglob("*") if path.is_file())


@pytest.mark.parametrize("load", [{}, {"concurrency": 2}, {"rate": 50}])
def test_failed_requests_are_counted_and_the_others_kept(load: dict[str, Any]) -> None:
    write_suite(defaults={"iterations": 12, "warmup": 0, **load}, limits="ttft_s<60")
    with QueueServer(fail_every=4) as server:
        done = run(server.url)
    assert (done.code, done.error) == (0, "")
    assert "requests failed (http_5xx" in done.output
    measurement = only_measurement()
    kinds = error_kinds(measurement)
    assert (kinds.total(), set(kinds)) == (12, {"ok", "http_5xx"})
    assert 2 <= kinds["http_5xx"] <= 4
    assert warnings(measurement)["request_errors"]["failed"] == kinds["http_5xx"]
    assert process_value("error_share", measurement) == pytest.approx(kinds["http_5xx"] / 12)


def test_a_server_that_dies_costs_what_it_did_not_answer() -> None:
    write_suite(defaults={"rate": 60, "iterations": 60, "warmup": 0, "give_up_after": 5}, limits="ttft_s<60")
    with QueueServer(dies_at=30) as server:
        done = run(server.url)
    assert (done.code, done.error) == (0, "")
    measurement = only_measurement()
    kinds = error_kinds(measurement)
    assert kinds.total() == 60
    assert kinds["ok"] >= 20
    assert kinds["disconnected"] >= 1
    assert kinds["connect"] <= 10
    assert kinds["unsent"] >= 10
    told = warnings(measurement)["request_errors"]
    assert told["failed"] == 60 - kinds["ok"]
    assert all(kind in str(told["kinds"]) for kind in kinds if kind != "ok")
    assert process_value("error_share", measurement) == pytest.approx(1 - kinds["ok"] / 60)
    scheduled_s = measurement.requests[-1].scheduled_s - measurement.requests[0].scheduled_s
    assert 0 < measurement.values["goodput_rps"] <= kinds["ok"] / scheduled_s  # the unsent ones' time counts


# ---- loads


def test_every_kind_of_load_in_one_suite(golden: GoldenServer) -> None:
    loads = [
        {"concurrency": 3},
        {"concurrency": 3, "ramp_s": 0.1, "clients": 2},
        {"rate": 40},
        {"rate": 40, "arrivals": "constant", "clients": 2},
        {"rate": 40, "arrivals": "gamma", "burstiness": 0.5},
    ]
    write_suite(include=[*({**load, "output_tokens": 3 + number} for number, load in enumerate(loads)), {"output_tokens": 9}])
    done = run(f"{golden.url}/v1", "--set", "model=golden", "--set", "iterations=12")
    assert (done.code, done.error) == (0, "")
    report = the_report()
    assert len(report.measurements) == 6
    for measurement in report.measurements:
        case = report.run.plan_of(measurement.case_id).case
        assert len(measurement.requests) == 12
        assert error_kinds(measurement) == {"ok": 12}
        assert {request.output_tokens for request in measurement.requests} == {case.output_tokens}
        if case.load:
            assert (process_value("request_rate", measurement) or 0) > 0
            assert len({request.prompt for request in measurement.requests}) == 12
        if case.load and case.load.arrivals == "constant":
            at = [request.scheduled_s for request in measurement.requests]
            assert [late - early for early, late in pairwise(at)] == pytest.approx([1 / 40] * 11, abs=1e-6)


OWN = '{"at_s": 5.0, "prompt_tokens": 20, "output_tokens": 3}\n{"at_s": 5.25, "prompt_tokens": 31, "output_tokens": 5}\n'
MOONCAKE = (
    '{"timestamp": 5000, "input_length": 20, "output_length": 3, "hash_ids": []}\n'
    '{"timestamp": 5250, "input_length": 31, "output_length": 5, "hash_ids": []}\n'
)


def test_a_trace_in_either_form_is_one_case(golden: GoldenServer, tiny_gemma: Path) -> None:
    cases = []
    for name, text in (("own.jsonl", OWN), ("mooncake.jsonl", MOONCAKE)):
        Path(name).write_text(text)
        write_suite(server={"tokenizer": str(tiny_gemma)}, workload={"trace": name})
        (suite := yaml.safe_load(Path("s.yaml").read_text()))["defaults"].pop("iterations")
        Path("s.yaml").write_text(yaml.safe_dump(suite))
        done = run(f"{golden.url}/v1", "--set", "model=golden")
        assert (done.code, done.error) == (0, "")
        first, second = only_requests = only_measurement().requests
        assert second.scheduled_s - first.scheduled_s == pytest.approx(0.25, abs=1e-6)
        assert [request.output_tokens for request in only_requests] == [3, 5]
        cases.append(only_measurement().case_id)
    assert cases[0] == cases[1]


def test_conversations_and_shared_beginnings(golden: GoldenServer, tiny_gemma: Path) -> None:
    workload = {"prompt_tokens": 120, "shared_prefix_tokens": 60, "prefix_hit_rate": 0.5, "turns": 2}
    write_suite(server={"tokenizer": str(tiny_gemma)}, workload=workload, defaults={"concurrency": 2, "iterations": 20})
    done = run(f"{golden.url}/v1", "--set", "model=golden")
    assert (done.code, done.error) == (0, "")
    measurement = only_measurement()
    assert Counter(request.values["turn"] for request in measurement.requests) == {1.0: 10, 2.0: 10}
    firsts = [request.prompt or "" for request in measurement.requests if request.values["turn"] == 1]
    beginnings = Counter(prompt[:8] for prompt in firsts)
    assert beginnings.most_common(1)[0][1] == 5
    assert "prompt_count" in warnings(measurement)  # the golden server always says 7


# ---- Ollama


@pytest.fixture
def ollama() -> Iterator[OllamaStandin]:
    with OllamaStandin(installed=(), library=("gemma3:1b",), pace_s=0.002) as server:
        yield server


def test_ollama_is_measured_alone_and_under_load_after_a_pull(ollama: OllamaStandin, here: Path) -> None:
    write_suite(
        server={"preset": "ollama"},
        defaults={"engine": "ollama", "model": "gemma3:1b"},
        include=[{}, {"concurrency": 2}],
        quality=["heuristic-v1"],
    )
    assert run(ollama.url).code == 5
    assert {failure.kind for failure in the_report().failures} == {"missing_weights"}
    assert "`ollama pull gemma3:1b` fetches it" in the_report().failures[0].message
    done = run(ollama.url, "--pull")
    assert (done.code, done.error) == (0, "")
    report = the_report()
    assert len(report.measurements) == 3
    for measurement in report.measurements:
        assert error_kinds(measurement).keys() == {"ok"}
        assert all(request.values["server_decode_s"] > 0 for request in measurement.requests)
    facts = report.run.environment.facts
    assert (facts["mine server_version"], facts["mine gemma3:1b server_quantization"]) == ("0.12.11", "Q8_0")
    assert ollama.url.encode() not in (here / ".bench/results.db").read_bytes()
    assert ollama.loaded == {}  # it was not in memory before


def test_a_model_that_cannot_be_pulled_is_said_so(ollama: OllamaStandin) -> None:
    write_suite(server={"preset": "ollama"}, defaults={"engine": "ollama", "model": "gemma9"})
    done = run(ollama.url, "--pull")
    assert done.code == 5
    assert "file does not exist" in done.error
    assert not Path(".bench").exists()  # no run was begun


def test_medians_agree_with_the_requests(golden: GoldenServer) -> None:
    write_suite(defaults={"concurrency": 4, "iterations": 16})
    assert run(f"{golden.url}/v1", "--set", "model=golden?tokens=5&ttft_s=0.05&tpot_s=0.01").code == 0
    shown = json.loads(run_bench("show", "latest", "--json").output)
    [row] = shown["cases"]
    ttft = [request_values("ttft_s", request)[0] for request in only_measurement().requests]
    assert row["metrics"]["ttft_s"]["value"] == pytest.approx(statistics.median(ttft))
    assert min(ttft) >= 0.05
