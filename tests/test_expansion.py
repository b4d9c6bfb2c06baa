"""What engines, servers and loads make of a suite's points: defaults by engine, identities, and contradictions refused."""

from pathlib import Path
from typing import Any

import pytest

from bench.expansion import Expansion, Machine, expand
from bench.suite import Suite
from bench.weights import ResolvedModel
from results.errors import UsageError
from results.records import Load

MACHINE = Machine(device="cpu", threads=2)


def resolve(reference: str, where: str) -> ResolvedModel:
    return ResolvedModel(reference, reference, f"sha256:{reference:0>64}", "q4_k_m", True, None, "q4_k_m")


def expanded(given: dict[str, str] | None = None, **fields: Any) -> Expansion:
    suite = {"name": "s", "question": "?", "matrix": {"model": ["m"]}} | fields
    return expand(Suite.model_validate(suite), MACHINE, resolve, given)


def test_each_engine_has_its_own_defaults() -> None:
    found = expanded(
        matrix={"model": ["m"], "engine": ["transformers", "llamacpp", "llamacpp-server", "openai"]},
        defaults={"server": "vllm", "slots": 4},
    )
    facts = {
        one.case.engine: (one.case.device, one.case.dtype, one.case.quantization, one.case.threads, one.case.slots, one.case.target)
        for one in found.planned
    }  # fmt: skip
    assert facts == {
        "transformers": ("cpu", "fp32", "fp32", 2, None, None),
        "llamacpp": ("cpu", "fp32", "q4_k_m", 2, None, None),
        "llamacpp-server": ("cpu", "fp32", "q4_k_m", 2, 4, None),
        "openai": ("remote", "unknown", "unknown", None, None, "vllm"),
    }
    assert found.models["served:m"].name == "m"
    assert found.servers["vllm"].url == "http://127.0.0.1:8000/v1"


def test_dtypes_are_given_to_the_engines_that_can_choose_them() -> None:
    found = expanded(matrix={"model": ["m"], "dtype": ["fp32", "bf16"]}, include=[{"model": "m", "engine": "llamacpp"}])
    assert [(one.case.engine, one.case.dtype, one.case.quantization) for one in found.planned] == [
        ("transformers", "fp32", "fp32"),
        ("transformers", "bf16", "bf16"),
        ("llamacpp", "fp32", "q4_k_m"),
    ]


@pytest.mark.parametrize(
    ("point", "load"),
    [
        ({}, None),
        ({"concurrency": 4}, Load(arrivals="closed", concurrency=4)),
        ({"concurrency": 4, "ramp_s": 2}, Load(arrivals="closed", concurrency=4, ramp_s=2)),
        ({"rate": 2.5}, Load(arrivals="poisson", rate=2.5)),
        ({"rate": 2.5, "arrivals": "constant"}, Load(arrivals="constant", rate=2.5)),
        ({"rate": 2.5, "arrivals": "gamma", "burstiness": 0.5}, Load(arrivals="gamma", rate=2.5, burstiness=0.5)),
    ],
)
def test_loads(point: dict[str, Any], load: Load | None) -> None:
    [planned] = expanded(defaults={"engine": "llamacpp-server"} | point).planned
    assert planned.case.load == load
    alone = planned.case.model_copy(update={"load": None})
    assert planned.case.config_id == alone.config_id
    assert (planned.case.case_id == alone.case_id) == (load is None)


def test_an_open_loop_has_the_time_that_its_schedule_takes() -> None:
    [planned] = expanded(defaults={"engine": "llamacpp-server", "rate": 0.5, "iterations": 300, "timeout_s": 60}).planned
    assert planned.timeout_s > 600 * 1.5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"defaults": {"concurrency": 2, "rate": 1}}, "different loads"),
        ({"defaults": {"arrivals": "poisson"}}, "need a rate"),
        ({"defaults": {"rate": 1, "arrivals": "gamma"}}, "go together"),
        ({"defaults": {"rate": 1, "ramp_s": 1}}, "closed loop"),
        ({"defaults": {"engine": "transformer"}}, "did you mean 'transformers'"),
        ({"defaults": {"engine": "openai"}}, "needs a server"),
        ({"defaults": {"engine": "openai", "server": "vlm"}}, "did you mean 'vllm'"),
        ({"workload": {"turns": 3}}, "parts of a load"),
        ({"workload": {"shared_prefix_tokens": 8}, "defaults": {"concurrency": 2}}, "go together"),
        (
            {"workload": {"shared_prefix_tokens": 8, "prefix_hit_rate": 0.5, "prompt_tokens": 8}, "defaults": {"concurrency": 2}},
            "longer prompt",
        ),
        ({"limits": "ttft<0.5"}, "ttft_s"),
        ({"defaults": {"rate": 1e9}}, "more than 1000000 requests"),
        ({"defaults": {"concurrency": 1, "iterations": 10**9}}, "more than 1000000 requests"),
        ({"defaults": {"rate": 1e-6}}, "more than a day"),
        ({"defaults": {"rate": 1, "clients": 1000}}, "more than 64"),
        ({"defaults": {"engine": "openai", "server": "vllm"}, "given": {"vlm": "http://x"}}, "asks it, did you mean 'vllm'"),
        ({"given": {"vllm": "http://x"}}, "asks it: leave it out"),
    ],
)
def test_contradictions_and_unknown_names_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        expanded(**fields)


def test_ollama_has_a_server_by_itself() -> None:
    [planned] = expanded(defaults={"engine": "ollama"}).planned
    assert (planned.case.target, planned.case.weights) == ("ollama", "served:m")


def test_a_quality_pass_is_no_load() -> None:
    found = expanded(
        defaults={"engine": "llamacpp-server", "concurrency": 2, "slots": 2}, quality=["heuristic-v1"], limits="ttft_s<1"
    )
    speed, quality = found.planned
    assert quality.case.load is None
    assert quality.limits is None
    assert speed.limits is not None
    assert speed.case.config_id == quality.case.config_id


def test_log_probabilities_are_an_axis_of_the_configuration() -> None:
    found = expanded(
        matrix={"model": ["m"], "engine": ["llamacpp"], "log_probabilities": [False, True]}, quality=["heuristic-v1"]
    )
    assert [one.case.log_probabilities for one in found.planned] == [False, True, False, True]
    off, on, *quality = (one.case.config_id for one in found.planned)
    assert off != on
    assert quality == [off, on]


def test_a_trace_is_replayed_whole_unless_iterations_say_less(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    trace.write_text("".join(f'{{"at_s": {60 * n}, "prompt_tokens": 8, "output_tokens": 4}}\n' for n in range(20)))
    fields: dict[str, Any] = {"workload": {"trace": str(trace)}, "defaults": {"engine": "llamacpp-server", "timeout_s": 60}}
    [planned] = expanded(**fields).planned
    assert planned.iterations == 20
    assert planned.timeout_s > 19 * 60
    assert planned.case.load is not None
    assert planned.case.load.trace is not None
    fields["defaults"]["iterations"] = 5
    assert expanded(**fields).planned[0].iterations == 5
    fields["workload"]["prompt_format"] = "chat"
    with pytest.raises(UsageError, match="leave chat"):
        expanded(**fields)
