"""The engine for OpenAI-compatible servers: what it sends to each kind of server, what it checks first, and real answers."""

import json
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from fakes import make_case
from golden_server import GoldenServer, Script, golden_text
from json_standin import JsonStandin

from bench.catalog import catalog
from bench.engines.codecs import FolderCodec, LlamaServerCodec, NoCodec, VllmCodec
from bench.engines.openai import OpenAI, OpenAIWire, codec_of, key_headers, known_model
from bench.engines.presets import PRESETS, Preset
from bench.engines.protocol import Served, Server, Source, UnsupportedError
from bench.engines.served import HttpSession
from bench.engines.server_calls import ServerCalls, ServerError
from bench.weights import prepare, resolve
from bench.workloads import Prompt, load_prompts, speed_prompt
from results.cases import PromptFormat, Sampling
from results.errors import UsageError

PAGE = Path(__file__).parent.parent / "docs/servers.md"
CASE = make_case(engine="openai", device="remote", dtype="unknown", quantization="unknown", threads=None, source_precision=None)
PLAIN = Prompt(0, "Why is it blue?", (2, 3, 4))
CHAT = Prompt(0, "Why is it blue?", (2, 3, 4), "chat")
MODELS = {"object": "list", "data": [{"id": "gemma-3-270m-it", "object": "model"}, {"id": "gemma-3-1b-it", "object": "model"}]}


def body(
    preset: Preset, prompt: Prompt = PLAIN, stop: Any = "length", history: tuple[str, ...] = (), **options: bool
) -> dict[str, Any]:
    wire = OpenAIWire("http://127.0.0.1:1/v1", "gemma", preset, **options)
    return json.loads(wire.body(prompt, 16, stop, history))  # type: ignore[no-any-return]


def server(url: str = "http://127.0.0.1:1/v1", preset: str = "openai", **changes: Any) -> Server:
    return Server("staging", url, preset, **changes)


# What is sent.


def test_a_plain_request_to_any_server() -> None:
    assert body(PRESETS["openai"]) == {
        "model": "gemma", "prompt": "Why is it blue?", "max_tokens": 16, "stream": True, "temperature": 0,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_a_chat_request_to_any_server() -> None:
    assert body(PRESETS["openai"], CHAT) == {
        "model": "gemma", "messages": [{"role": "user", "content": "Why is it blue?"}], "max_tokens": 16, "stream": True,
        "temperature": 0, "stream_options": {"include_usage": True},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["vllm", "sglang", "llama-server"])
def test_fixed_lengths_and_token_ids_where_the_server_has_them(name: str) -> None:
    fixed, free = body(PRESETS[name]), body(PRESETS[name], stop="eos")
    assert fixed["prompt"] == [2, 3, 4]
    assert fixed["ignore_eos"] is True and "ignore_eos" not in free
    assert body(PRESETS[name], Prompt(0, "Hello", ()))["prompt"] == "Hello", "nothing could tokenize"
    assert "ignore_eos" in body(PRESETS[name], CHAT)


def test_usage_with_every_event_where_the_server_has_it() -> None:
    running = {name for name, preset in PRESETS.items() if body(preset)["stream_options"].get("continuous_usage_stats")}
    assert running == {"vllm", "sglang"}


def test_the_prompt_cache_of_llama_server_is_off_unless_the_case_is_about_it() -> None:
    assert body(PRESETS["llama-server"])["cache_prompt"] is False
    assert body(PRESETS["llama-server"], prompt_cache=True)["cache_prompt"] is True
    assert body(PRESETS["llama-server"])["timings_per_token"] is True
    assert "cache_prompt" not in body(PRESETS["vllm"])


LLAMA_SERVER_BODIES = {
    "plain": b'{"model":"gemma","stream":true,"timings_per_token":true,"temperature":0,"stream_options":{"include_usage":true},'
    b'"cache_prompt":false,"prompt":[2,3,4],"max_tokens":16,"ignore_eos":true}',
    "chat": b'{"model":"gemma","stream":true,"timings_per_token":true,"temperature":0,"stream_options":{"include_usage":true},'
    b'"cache_prompt":false,"messages":[{"role":"user","content":"Why is it blue?"}],"max_tokens":16,"ignore_eos":true}',
}


@pytest.mark.parametrize("prompt", [PLAIN, CHAT], ids=["plain", "chat"])
def test_requests_without_log_probabilities_are_the_same_to_the_byte(prompt: Prompt) -> None:
    """Asking for them adds what asks for them, and nothing else."""
    off, on = (
        OpenAIWire("http://127.0.0.1:1/v1", "gemma", PRESETS["llama-server"], log_probabilities=asked).body(prompt, 16, "length")
        for asked in (False, True)
    )
    assert off == LLAMA_SERVER_BODIES[prompt.form]
    asking = {"plain": b',"logprobs":1}', "chat": b',"logprobs":true,"top_logprobs":1}'}[prompt.form]
    assert on == off[:-1] + asking


def test_log_probabilities_are_asked_only_of_servers_that_tell_them() -> None:
    able = {
        (name, form)
        for name, preset in PRESETS.items()
        for form in preset.log_probabilities
        if OpenAIWire("http://x/v1", "m", preset, log_probabilities=True).endpoint(form)
    }
    both = {(name, form) for name in ("openai", "vllm", "sglang", "llama-server") for form in ("plain", "chat")}
    assert able == both | {("tgi", "chat"), ("openai-api", "chat")}
    for name, form, remedy in (
        ("tgi", "plain", "set workload.prompt_format to chat, or leave"),
        ("lm-studio", "chat", "here: leave log_probabilities out"),
        ("openai-api", "plain", "no plain completions"),
    ):
        with pytest.raises(UnsupportedError, match=remedy):
            OpenAIWire("http://x/v1", "m", PRESETS[name], log_probabilities=True).endpoint(form)  # type: ignore[arg-type]
    with (
        JsonStandin({"/v1/models": (200, MODELS)}) as standin,
        pytest.raises(UnsupportedError, match="leave log_probabilities out"),
    ):
        asked = CASE.model_copy(update={"log_probabilities": True})
        OpenAI({}).load(Source(server=server(f"{standin.url}/v1", "lm-studio"), model="gemma-3-1b-it"), asked)


def test_quirks_of_single_kinds() -> None:
    assert body(PRESETS["tgi"])["model"] == "tgi"
    newest = body(PRESETS["openai-api"], CHAT)
    assert newest["max_completion_tokens"] == 16 and not {"max_tokens", "temperature"} & newest.keys()
    assert "stream_options" not in body(Preset(usage=False))


def drawn_by(preset: str, sampling: Sampling | None, prompt: Prompt = PLAIN) -> dict[str, Any]:
    """What a request says beyond a greedy one, or otherwise."""
    wire = OpenAIWire("http://127.0.0.1:1/v1", "gemma", PRESETS[preset])
    greedy = json.loads(wire.body(prompt, 16, "length"))
    wire.begin(CASE.model_copy(update={"sampling": sampling}))
    said = json.loads(wire.body(prompt, 16, "length"))
    return {name: value for name, value in said.items() if greedy.get(name, "") != value}


def test_sampling_is_said_in_the_words_of_each_kind() -> None:
    asked = Sampling(temperature=0.5, top_p=0.8, repetition_penalty=1.1, seed=3)
    common = {"temperature": 0.5, "top_p": 0.8, "seed": 3}
    assert drawn_by("vllm", asked) == common | {"top_k": -1, "min_p": 0, "repetition_penalty": 1.1}
    assert drawn_by("llama-server", asked.model_copy(update={"top_k": 40})) == common | {
        "top_k": 40, "repeat_penalty": 1.1, "repeat_last_n": 131072, "samplers": ["penalties", "temperature", "top_k", "top_p"],
    }  # fmt: skip
    assert drawn_by("lm-studio", asked, CHAT) == common | {"top_k": 0, "repeat_penalty": 1.1}
    plain = asked.model_copy(update={"repetition_penalty": 1.0})
    assert drawn_by("openai", plain) == common
    assert drawn_by("google", plain, CHAT) == {"temperature": 0.5, "top_p": 0.8}


@pytest.mark.parametrize("name", PRESETS)
def test_without_sampling_nothing_is_said_of_it(name: str) -> None:
    assert drawn_by(name, None, CHAT) == {}


@pytest.mark.parametrize(
    ("preset", "changes", "remedy"),
    [
        ("openai", {"top_k": 40, "repetition_penalty": 1.0}, "have no top_k: leave it out"),
        ("openai", {}, "set repetition_penalty to 1"),
        ("tgi", {}, "set repetition_penalty to 1"),
        ("openai-api", {"repetition_penalty": 1.0}, "leave temperature and the rest of sampling out"),
    ],
)
def test_sampling_without_a_word_for_it_is_refused(preset: str, changes: dict[str, Any], remedy: str) -> None:
    with pytest.raises(UnsupportedError, match=remedy):
        drawn_by(preset, Sampling(**changes), CHAT)


def test_history_comes_in_turn() -> None:
    history = ("Hello", "Hi", "Who?", "Me")
    roles = [(one["role"], one["content"]) for one in body(PRESETS["vllm"], CHAT, history=history)["messages"]]
    assert roles == [
        ("user", "Hello"), ("assistant", "Hi"), ("user", "Who?"), ("assistant", "Me"), ("user", "Why is it blue?"),
    ]  # fmt: skip
    assert body(PRESETS["vllm"], history=history)["prompt"] == "HelloHi\nWho?Me\nWhy is it blue?"


def test_text_goes_out_as_utf_8() -> None:
    wire = OpenAIWire("http://127.0.0.1:1/v1", "gemma", PRESETS["openai"])
    assert "größer 🙂".encode() in wire.body(Prompt(0, "größer 🙂", ()), 1, "eos")


def test_where_it_is_sent() -> None:
    wire = OpenAIWire("http://127.0.0.1:1/v1/", "gemma", PRESETS["openai"], {"Authorization": "Bearer k"})
    assert wire.endpoint("plain").url == "http://127.0.0.1:1/v1/completions"
    assert wire.endpoint("chat").url == "http://127.0.0.1:1/v1/chat/completions"
    assert wire.endpoint("chat").headers == {"Authorization": "Bearer k"}
    assert (wire.dialect("plain"), wire.dialect("chat")) == ("openai-completions", "openai-chat")
    for name in ("nvidia", "google", "vertex", "openai-api"):
        with pytest.raises(UnsupportedError, match="prompt_format to chat"):
            OpenAIWire("https://x/v1", "gemma", PRESETS[name]).endpoint("plain")


def test_the_page_describes_every_preset_and_every_quirk() -> None:
    text = PAGE.read_text()
    assert [name for name in [*PRESETS, "ollama"] if f"`{name}`" not in text] == []
    assert [one.name for one in fields(Preset) if f"`{one.name}`" not in text] == []
    assert [preset.url for preset in PRESETS.values() if preset.url and preset.url not in text] == []
    assert [preset.key_env for preset in PRESETS.values() if preset.key_env and preset.key_env not in text] == []


# The key.


def test_a_key_comes_from_the_variable_that_is_named() -> None:
    named = server(api_key_env="MY_KEY")
    assert key_headers(named, PRESETS["openai"], {"MY_KEY": " k \n"}) == {"Authorization": "Bearer k"}
    for environ in ({}, {"MY_KEY": ""}):
        with pytest.raises(ServerError, match="server staging wants a key: set the environment variable MY_KEY"):
            key_headers(named, PRESETS["openai"], environ)
    for key in ("a\nb", "schlüssel"):
        with pytest.raises(ServerError, match="The key in MY_KEY holds characters") as refused:
            key_headers(named, PRESETS["openai"], {"MY_KEY": key})
        assert key not in str(refused.value)


def test_a_presets_own_key_goes_to_its_own_hosts_only() -> None:
    environ = {"NVIDIA_API_KEY": "k", "GEMINI_API_KEY": "g", "VERTEX_ACCESS_TOKEN": "v"}
    for name, url in {
        "nvidia": "https://integrate.api.nvidia.com/v1",
        "google": "https://generativelanguage.googleapis.com/v1beta/openai",
        "vertex": "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/endpoints/openapi",
    }.items():
        assert (
            key_headers(server(url, name), PRESETS[name], environ)["Authorization"]
            == "Bearer " + environ[PRESETS[name].key_env or ""]
        )
    for url in (
        "http://127.0.0.1:8000/v1",
        "https://integrate.api.nvidia.com.example.org/v1",
        "https://example.org/.api.nvidia.com",
        "http://integrate.api.nvidia.com/v1",
    ):
        assert key_headers(server(url, "nvidia"), PRESETS["nvidia"], environ) == {}
    assert key_headers(server("http://127.0.0.1:8000/v1"), PRESETS["vllm"], environ) == {}


# What is checked before anything is measured.


@pytest.mark.parametrize(
    ("routes", "model", "found"),
    [
        ({"/models": (200, MODELS)}, "gemma-3-1b-it", "gemma-3-1b-it"),
        ({"/models": (200, {"data": MODELS["data"][:1]})}, "", "gemma-3-270m-it"),
        ({"/models": (200, {"data": [{"id": "models/gemini-2.5-flash"}]})}, "gemini-2.5-flash", "gemini-2.5-flash"),
        ({}, "anything", "anything"),
        ({"/models": (405, {})}, "anything", "anything"),
        ({"/models": (200, {"data": None})}, "anything", "anything"),
        ({"/models": (200, [])}, "anything", "anything"),
    ],
)
def test_the_model_is_looked_up_where_the_server_has_a_list(routes: Any, model: str, found: str) -> None:
    with JsonStandin(routes) as standin:
        assert known_model(ServerCalls(standin.url, "staging"), model) == found


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with JsonStandin({"/models": (200, MODELS)}) as standin:
        calls = ServerCalls(standin.url, "staging")
        with pytest.raises(ServerError, match="staging has no model 'gemma-3-270m', did you mean 'gemma-3-270m-it'") as refused:
            known_model(calls, "gemma-3-270m")
        assert refused.value.kind == "missing_weights"
        with pytest.raises(UsageError, match="lists 2 models: name the one"):
            known_model(calls, "")


def test_a_server_with_one_model_may_answer_for_every_name() -> None:
    with JsonStandin({"/models": (200, {"data": [{"id": "/models/a.gguf"}]})}) as standin:
        calls = ServerCalls(standin.url, "staging")
        assert known_model(calls, "gemma-3-270m", any_name=True) == "gemma-3-270m"
        with pytest.raises(ServerError, match="has no model"):
            known_model(calls, "gemma-3-270m")


def test_a_server_that_is_not_there_or_refuses_is_said() -> None:
    with JsonStandin({"/v1/models": (401, {"error": {"message": "bad key"}})}) as standin:
        gone = standin.url
        refused = Source(server=server(f"{standin.url}/v1"), model="m")
        with pytest.raises(ServerError, match=r"staging refused the key \(401: bad key\): name the variable"):
            OpenAI({}).load(refused, CASE)
    with pytest.raises(ServerError, match="staging does not answer: nothing listens on port"):
        OpenAI({}).load(Source(server=server(f"{gone}/v1"), model="m"), CASE)
    with pytest.raises(UsageError, match="unknown preset 'vlm', did you mean 'vllm'"):
        OpenAI({}).load(Source(server=server(preset="vlm"), model="m"), CASE)
    with pytest.raises(UsageError, match="needs a server"):
        OpenAI({}).load(Source(model="m"), CASE)


def test_a_chat_only_server_refuses_plain_prompts_before_anything_is_sent() -> None:
    with JsonStandin({"/v1/models": (200, MODELS)}) as standin, pytest.raises(UnsupportedError, match="prompt_format to chat"):
        OpenAI({}).load(Source(server=server(f"{standin.url}/v1", "nvidia"), model="gemma-3-1b-it"), CASE)


@pytest.mark.slow
def test_who_tokenizes(tiny_gemma: Path) -> None:
    with JsonStandin({"/tokenize": (200, {"tokens": [7], "count": 1})}) as standin:
        url = f"{standin.url}/v1"
        assert isinstance(codec_of(server(url), PRESETS["openai"], "m", {}), NoCodec)
        assert isinstance(codec_of(server(url), PRESETS["vllm"], "m", {}), VllmCodec)
        assert isinstance(codec_of(server(url), PRESETS["llama-server"], "m", {}), LlamaServerCodec)
        assert isinstance(codec_of(server(url, tokenizer=str(tiny_gemma)), PRESETS["vllm"], "m", {}), FolderCodec)
        standin.routes.clear()
        assert isinstance(codec_of(server(url), PRESETS["vllm"], "m", {}), NoCodec), "behind a gateway without /tokenize"
        standin.routes["/tokenize"] = (200, [])
        assert isinstance(codec_of(server(url), PRESETS["vllm"], "m", {}), NoCodec)


# Answers, from a server whose tokens and times are known.


@pytest.fixture(scope="module")
def golden() -> Iterator[GoldenServer]:
    with GoldenServer() as started:
        yield started


@pytest.mark.parametrize("form", ["plain", "chat"])
@pytest.mark.parametrize("name", ["openai", "vllm", "sglang", "tgi", "llama-server", "lm-studio"])
def test_a_request_through_every_preset(golden: GoldenServer, name: str, form: PromptFormat) -> None:
    preset = replace(PRESETS[name], sent_model=None)  # the golden server takes its script from the model's name
    session = HttpSession(
        OpenAIWire(f"{golden.url}/v1", f"golden?id={name}-{form}&ttft_s=0.02", preset), NoCodec(), request_timeout_s=5
    )
    generation = session.generate(Prompt(0, "Hello", (), form), 12, "length", time.perf_counter)
    session.close()
    assert generation.error is None
    assert (generation.output_tokens, sum(generation.event_tokens), generation.finish_reason) == (12, 12, "length")
    assert generation.text == golden_text(Script(tokens=12))
    assert (generation.prompt_tokens, generation.token_source) == (7, "usage")
    writes = [at for at, tokens in golden.records()[f"{name}-{form}"]["writes"] if tokens]
    times = [at for at, tokens in zip(generation.event_times, generation.event_tokens, strict=True) if tokens]
    assert generation.sent < writes[0] <= times[0] == generation.first_content
    assert writes[-1] <= times[-1] == generation.last_content


def test_the_engine_connects_to_a_server_without_a_list_of_models(golden: GoldenServer) -> None:
    session = OpenAI({}).load(Source(server=server(f"{golden.url}/v1"), model="golden?id=engine&eos=true"), CASE)
    assert isinstance(session, Served) and session.server_pid is None and session.alive() is None
    generation = session.generate(PLAIN, 12, "length", time.perf_counter)
    assert (generation.text, generation.output_tokens) == (golden_text(Script(tokens=12)), 13), "the end of sequence has no text"
    assert session.recount(generation.text) is None
    session.close()


def test_a_key_is_sent_and_shown_nowhere(golden: GoldenServer) -> None:
    named = server(f"{golden.url}/v1", api_key_env="MY_KEY")
    session = OpenAI({"MY_KEY": "secret"}).load(Source(server=named, model="golden?id=key"), CASE)
    assert session.generate(PLAIN, 12, "length", time.perf_counter).error is None
    assert "Authorization: Bearer secret" in golden.records()["key"]["head"]
    assert "secret" not in repr(session.endpoint("plain"))
    session.close()


# Answers from a real one.


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[str]:
    """The root URL of a llama.cpp server with Gemma 3 270M."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip(catalog()["gemma-3-270m"].package.module)  # type: ignore[union-attr]
    from bench.engines.llamacpp import LlamaCppServer

    file = prepare(resolve("gemma-3-270m", "model"), lambda *_: None, "gguf")
    case = make_case(engine="llamacpp-server", quantization="q4_k_m", threads=1, prompt_cache=True)
    started = LlamaCppServer().load(Source(weights=file, context_tokens=512), case)
    yield started.endpoint("plain").url.removesuffix("/v1/completions")
    started.close()


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("preset", ["llama-server", "openai"])
def test_a_real_server_answers(llama_cpp: str, preset: str) -> None:
    session = OpenAI({}).load(
        Source(server=server(f"{llama_cpp}/v1", preset), model="gemma-3-270m" if preset != "openai" else ""), CASE
    )
    generation = session.generate(
        Prompt(0, "The capital of France is", tuple(session.encode("The capital of France is", "plain"))),
        24,
        "length",
        time.perf_counter,
    )
    assert generation.error is None
    assert generation.text.startswith(" the capital of the country of France.")
    assert generation.prompt_tokens == 6, "five words and the beginning of sequence"
    assert generation.output_tokens == sum(generation.event_tokens) == 24
    assert generation.values["server_decode_s"] < generation.last_content - generation.sent  # type: ignore[operator]
    chat = session.generate(Prompt(0, "Hello", (), "chat"), 5, "length", time.perf_counter)
    assert (chat.error, chat.output_tokens) == (None, 5)
    session.close()


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("preset", ["llama-server", "openai"])
@pytest.mark.parametrize("form", ["plain", "chat"])
def test_a_real_server_tells_log_probabilities(llama_cpp: str, preset: str, form: PromptFormat) -> None:
    case = CASE.model_copy(update={"log_probabilities": True})
    session = OpenAI({}).load(Source(server=server(f"{llama_cpp}/v1", preset)), case)
    generation = session.generate(replace(PLAIN, token_ids=(), form=form), 16, "length", time.perf_counter)
    session.close()
    assert (generation.error, generation.output_tokens, generation.event_tokens.count(1)) == (None, 16, 16)
    assert -5 < generation.values["mean_log_probability"] < 0


@pytest.mark.slow
@pytest.mark.engine
def test_a_real_server_tokenizes_as_it_serves(llama_cpp: str) -> None:
    source = Source(server=server(f"{llama_cpp}/v1", "llama-server"), model="gemma-3-270m")
    session = OpenAI({}).load(source, CASE)
    prompts = load_prompts("five-questions")
    for length in (8, 33, 64):
        prompt = speed_prompt(prompts, 0, "1.7", length, "plain", session.encode, session.decode)
        assert len(prompt.token_ids) == length
        assert session.generate(prompt, 2, "length", time.perf_counter).prompt_tokens == length
    for text in ("Hello 🙂", "größer", "a <end_of_turn> b"):
        ids = session.encode(text, "chat")
        assert session.generate(Prompt(0, text, tuple(ids), "chat"), 2, "length", time.perf_counter).prompt_tokens == len(ids)
        assert session.decode(session.encode(text, "plain")) == text
    session.close()


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("cache", [False, True])
def test_a_real_server_reuses_a_prompt_only_where_the_case_is_about_it(llama_cpp: str, cache: bool) -> None:
    source = Source(server=server(f"{llama_cpp}/v1", "llama-server"), model="gemma-3-270m")
    session = OpenAI({}).load(source, CASE.model_copy(update={"prompt_cache": cache}))
    text = f"It was the best of times, it was the worst of times, and it was {cache}."
    prompt = Prompt(0, text, tuple(session.encode(text, "plain")))
    first, second = (session.generate(prompt, 2, "length", time.perf_counter).values["cached_prompt_tokens"] for _ in range(2))
    assert second > 10 if cache else first == second == 0
    session.close()
