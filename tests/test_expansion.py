"""What engines, servers and loads make of a suite's points: defaults by engine, identities, and contradictions refused."""

from pathlib import Path
from typing import Any

import pytest

from bench.cases import Machine
from bench.engines import support
from bench.expansion import Expansion, expand, with_load
from bench.serving import Serving
from bench.suite import Suite
from bench.weights import ResolvedModel
from bench.worker import refusal
from results.cases import Load
from results.errors import UsageError

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


SERVED = {"engine": "openai", "server": "vllm", "min_seconds": 10, "request_timeout_s": 1000, "timeout_s": 60}


@pytest.mark.parametrize("load", [{"concurrency": 4}, {"rate": 2.0}])
def test_a_load_has_time_for_prompts_and_for_requests_that_time_out(load: dict[str, Any]) -> None:
    def timeout_s(turns: int = 1, **changes: Any) -> float:
        [one] = expanded(defaults=SERVED | load | {"iterations": 30} | changes, workload={"turns": turns}).planned
        return one.timeout_s

    assert timeout_s() > 10 + 1000
    assert timeout_s(retries=2) == pytest.approx(timeout_s() + 2000)
    assert timeout_s(turns=3, retries=1) >= timeout_s() + 5000
    assert timeout_s(iterations=1030) - timeout_s() >= 100  # a second for ten prompts
    assert timeout_s(timeout_s=1e5) == 1e5


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
        ({"limits": "ttft_s.p99<0.5"}, "leave it out"),
        ({"defaults": {"rate": 1e9}}, "more than 1000000 requests"),
        ({"defaults": {"concurrency": 1, "iterations": 10**9}}, "more than 1000000 requests"),
        ({"defaults": {"rate": 1e-6}}, "more than a day"),
        ({"defaults": {"rate": 1, "clients": 1000}}, "more than 64"),
        ({"defaults": {"engine": "openai", "server": "vllm"}, "given": {"vlm": "http://x"}}, "asks it, did you mean 'vllm'"),
        ({"given": {"vllm": "http://x"}}, "asks it: leave it out"),
        ({"serving": {}, "defaults": {"concurrency": 2}}, "finds the loads by itself, but c2 is given"),
        ({"serving": {}, "include": [{"model": "m", "rate": 2}]}, "finds the loads by itself, but poisson 2/s is given"),
        ({"serving": {"find_max": "ttft_s.p99.999<1"}}, "takes 722[0-9]{3} requests at each rate to prove, more than 100000"),
    ],
)
def test_contradictions_and_unknown_names_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        expanded(**fields)


@pytest.mark.parametrize(
    ("matrix", "rule", "left"),
    [
        ({"quantization": ["fp32", "bf16", "int8"]}, {"dtype": "fp32"}, ["bf16", "int8"]),
        ({"quantization": ["fp32", "bf16", "int8"]}, {"dtype": "bf16"}, ["fp32"]),
        ({"optimization": ["performance", "balanced"]}, {"quantization": "int8"}, ["bf16"]),
        ({"optimization": ["performance", "balanced"]}, {"optimization": "performance"}, ["int8"]),
        ({"engine": ["transformers", "llamacpp"]}, {"engine": "llamacpp", "dtype": "fp32"}, ["fp32"]),
    ],
)
def test_excludes_match_what_a_case_computes_in(matrix: dict[str, Any], rule: dict[str, Any], left: list[str]) -> None:
    found = expanded(matrix={"model": ["m"]} | matrix, exclude=[rule])
    assert [one.case.quantization for one in found.planned] == left


@pytest.mark.parametrize(
    "given",
    [
        {"adapter": "a"}, {"kv_cache": "static"}, {"kv_dtype": "fp16"}, {"compile": "default"}, {"log_probabilities": True},
        {"prompt_cache": True}, {"batch": 2}, {"depth": 8}, {"temperature": 0.7}, {"draft": "d"}, {"prompt_tokens": 8},
    ],
)  # fmt: skip
def test_fine_tuning_takes_no_switch_of_generating(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    if "adapter" in given:
        (tmp_path / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "m"}'
        )
        (tmp_path / "adapter_model.safetensors").write_bytes(b"0")
        given = {"adapter": str(tmp_path)}
    expanded(workload={"finetune": {}})  # alone it is well
    with pytest.raises(UsageError, match=f"leave {next(iter(given))} out"):
        expanded(workload={"finetune": {}}, defaults=given)


def test_fine_tuning_has_no_quality_pass_and_no_length_of_prompts() -> None:
    for fields in ({"quality": ["heuristic-v1"]}, {"workload": {"prompt_tokens": 8, "finetune": {}}}):
        with pytest.raises(UsageError, match=r"leave (quality|prompt_tokens) out"):
            expanded(**{"workload": {"finetune": {}}} | fields)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"kv_cache": "dynamic"}, {}),
        ({"kv_dtype": "bf16", "dtype": "bf16"}, {"dtype": "bf16"}),
        ({"kv_cache": "static", "kv_dtype": "fp32"}, {"kv_cache": "static"}),
        ({"kv_cache": "quantized"}, {"kv_cache": "quantized", "kv_dtype": "int4"}),
        ({"compile": "default", "kv_cache": "static"}, {"compile": "default"}),
    ],
)
def test_one_way_to_keep_the_cache_is_one_case(given: dict[str, Any], same: dict[str, Any]) -> None:
    [one], [other] = expanded(defaults=given).planned, expanded(defaults=same).planned
    assert (one.case.case_id, one.label) == (other.case.case_id, other.label)


@pytest.mark.parametrize(
    "given",
    [
        {"kv_cache": "static"}, {"kv_cache": "off"}, {"kv_cache": "quantized", "kv_dtype": "fp8"}, {"kv_cache": "offloaded"},
        {"compile": "default", "kv_cache": "dynamic"}, {"engine": "llamacpp", "kv_dtype": "fp32"},
        {"kv_cache": "off", "kv_dtype": "fp32"}, {"engine": "llamacpp", "kv_cache": "dynamic"},
    ],
)  # fmt: skip
def test_other_ways_to_keep_the_cache_stay_as_given(given: dict[str, Any]) -> None:
    [one] = expanded(defaults=given).planned
    assert (one.case.kv_cache, one.case.kv_dtype) == (given.get("kv_cache"), given.get("kv_dtype"))


@pytest.mark.parametrize(("engine", "has_one"), [("transformers", False), ("llamacpp", True), ("openai", True), ("ollama", True)])
def test_a_prompt_cache_is_refused_where_there_is_none(engine: str, has_one: bool) -> None:
    [planned] = expanded(
        defaults={"engine": engine, "prompt_cache": True} | ({"server": "vllm"} if engine == "openai" else {})
    ).planned
    reason = refusal(planned.case, support(engine))
    assert reason is None if has_one else reason and "has no prompt cache: leave it out" in reason


def test_a_server_has_no_random_weights() -> None:
    with pytest.raises(UsageError, match="random weights take no adapter, draft or server"):
        expanded(defaults={"engine": "openai", "server": "vllm", "weights": "random"}, matrix={"model": ["gemma-3-270m"]})


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


def test_room_for_tokens_follows_from_the_case_alone(tmp_path: Path) -> None:
    found = expanded(
        matrix={"model": ["m"], "engine": ["transformers", "llamacpp"], "depth": [0, 8192]}, quality=["heuristic-v1"]
    )
    rooms = {(one.case.engine, one.case.purpose, one.case.depth): one.context_tokens for one in found.planned}
    assert {room for (engine, _, _), room in rooms.items() if engine == "transformers"} == {None}
    ours = {key[1:]: room for key, room in rooms.items() if key[0] == "llamacpp"}
    assert ours == {("speed", 0): 4096, ("speed", 8192): 16384, ("quality", 0): 4096}
    trace = tmp_path / "t.jsonl"
    trace.write_text(
        '{"at_s": 0, "prompt_tokens": 8, "output_tokens": 4}\n{"at_s": 1, "prompt_tokens": 9000, "output_tokens": 4}\n'
    )
    replayed = expanded(workload={"trace": str(trace)}, defaults={"engine": "llamacpp-server", "min_seconds": 0})
    assert replayed.planned[0].context_tokens == 16384


def test_parts_of_a_trace_are_loads_of_their_own(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"

    def write(*times: int) -> None:
        trace.write_text("".join(f'{{"at_s": {at}, "prompt_tokens": 8, "output_tokens": 4}}\n' for at in times))

    def case_id(**settings: Any) -> str:
        defaults = {"engine": "llamacpp-server", "min_seconds": 0} | settings
        return expanded(workload={"trace": str(trace)}, defaults=defaults).planned[0].case.case_id

    write(0, 1, 2, 3, 4)
    whole, two, one = case_id(), case_id(iterations=2), case_id(iterations=1)
    assert len({whole, two, one}) == 3
    assert case_id(iterations=1, min_seconds=2) == two  # the seconds reach as far
    assert case_id(iterations=9) == case_id(min_seconds=60) == whole
    write(0, 1, 7, 8)
    assert (case_id(iterations=2), case_id(iterations=1)) == (two, one)  # what is not replayed is not in it
    assert case_id() != whole


def test_further_loads_of_a_sweep_keep_what_its_point_asks_for() -> None:
    serving = Serving(all_at_once=300)
    found = expanded(
        serving=serving.model_dump(exclude_none=True), defaults={"engine": "openai", "server": "vllm", "processes": 2},
        matrix=None, include=[{"model": "a"}, {"model": "b", "iterations": 2000}],
    )  # fmt: skip
    assert [one.iterations for one in found.planned] == [4, 1200, 2000, 2000]
    alone = {one.model: one for one in found.planned if one.case.load == Load(arrivals="closed", concurrency=1)}
    more = {model: with_load(one, Load(arrivals="poisson", rate=2.0), serving) for model, one in alone.items()}
    assert {model: (one.iterations, one.processes) for model, one in more.items()} == {"a": (100, 2), "b": (2000, 2)}


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
    fields["serving"] = {}
    with pytest.raises(UsageError, match="but trace is given: leave out concurrency, rate"):
        expanded(**fields)
    del fields["serving"]
    fields["workload"]["prompt_format"] = "chat"
    with pytest.raises(UsageError, match="leave chat"):
        expanded(**fields)
