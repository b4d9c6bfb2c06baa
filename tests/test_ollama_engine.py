"""The Ollama engine against a stand-in, which Ollama's own client has proven first."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice

import pytest
from fakes import make_case
from json_standin import JsonStandin
from ollama_standin import LAYERS, WORDS, OllamaStandin, log_probability

from bench.engines.ollama import Ollama, OllamaSession, OllamaWire, full_name, model_facts, pull, running, unload
from bench.engines.protocol import Server, Source, UnsupportedError
from bench.engines.server_calls import ServerCalls, ServerError
from bench.environment import environment
from bench.workloads import Prompt
from results.cases import Case, PromptFormat, Sampling

pytestmark = pytest.mark.slow

CASE = make_case(engine="ollama", device="remote", dtype="unknown", quantization="unknown", threads=None, source_precision=None)
MODEL = "gemma3:270m"


def said(tokens: int) -> str:
    return "".join(islice(cycle(WORDS), tokens))


@pytest.fixture
def ollama() -> Iterator[OllamaStandin]:
    with OllamaStandin() as standin:
        yield standin


def source(standin: OllamaStandin, model: str = MODEL, **changes: object) -> Source:
    return Source(server=Server("here", standin.url, "ollama"), model=model, context_tokens=512, **changes)  # type: ignore[arg-type]


def load(standin: OllamaStandin) -> OllamaSession:
    return Ollama().load(source(standin), CASE)


# The stand-in, under Ollama's own client.


def client_of(standin: OllamaStandin):  # type: ignore[no-untyped-def]
    ollama = pytest.importorskip("ollama")
    return ollama.Client(host=standin.url, trust_env=False)


def test_standin_generates_whole_and_streamed(ollama: OllamaStandin) -> None:
    client = client_of(ollama)
    whole = client.generate(MODEL, "Why is it blue?", options={"num_predict": 6})
    assert (whole.response, whole.eval_count, whole.done_reason) == (said(6), 6, "length")
    assert whole.prompt_eval_count == 1 + 5
    assert whole.context and whole.total_duration >= whole.eval_duration + whole.prompt_eval_duration
    parts = list(client.generate(MODEL, "Why is it blue?", stream=True, raw=True, options={"num_predict": 12}))
    assert [part.response for part in parts] == [*islice(cycle(WORDS), 12), ""]
    assert [part.done for part in parts] == [False] * 12 + [True]
    assert parts[-1].prompt_eval_count == 5 and parts[-1].context is None


def test_standin_chats(ollama: OllamaStandin) -> None:
    client = client_of(ollama)
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "And?"}]
    assert client.chat(MODEL, messages).message.content == said(len(WORDS))
    parts = list(client.chat(MODEL, messages, stream=True, options={"num_predict": 3}))
    assert "".join(part.message.content or "" for part in parts) == said(3)
    assert parts[-1].done_reason == "length" and parts[-1].eval_count == 3


def test_standin_tells_log_probabilities(ollama: OllamaStandin) -> None:
    client, told = client_of(ollama), [(word, log_probability(number)) for number, word in enumerate(WORDS[:4])]
    whole = client.generate(MODEL, "Hello", logprobs=True, options={"num_predict": 4})
    assert [(one.token, one.logprob) for one in whole.logprobs] == told
    parts = list(client.chat(MODEL, [{"role": "user", "content": "Hi"}], stream=True, logprobs=True, options={"num_predict": 4}))
    assert [(one.token, one.logprob) for part in parts for one in part.logprobs or ()] == told
    assert client.generate(MODEL, "Hello", options={"num_predict": 4}).logprobs is None


def test_standin_loads_lists_and_unloads(ollama: OllamaStandin) -> None:
    client = client_of(ollama)
    assert [model.model for model in client.list().models] == [MODEL]
    assert client.ps().models == []
    assert client.generate(MODEL, options={"num_ctx": 256}, keep_alive="10m").done_reason == "load"
    (loaded,) = client.ps().models
    assert (loaded.model, loaded.context_length) == (MODEL, 256)
    assert 9 < (loaded.expires_at - datetime.now(UTC)).total_seconds() / 60 < 10.1
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.chat(MODEL, []).done_reason == "load"
    assert len(client.ps().models) == 1


def test_standin_shows_and_pulls(ollama: OllamaStandin) -> None:
    client = client_of(ollama)
    shown = client.show(MODEL)
    assert shown.details.quantization_level == "Q8_0" and shown.modelinfo["gemma3.context_length"] == 32768
    steps = list(client.pull("gemma3:1b", stream=True))
    assert steps[0].status == "pulling manifest" and steps[-1].status == "success"
    assert max(step.completed or 0 for step in steps) == max(LAYERS.values())
    assert len(client.list().models) == 2
    assert client.pull("gemma3:1b").status == "success"


def test_standin_refuses_as_ollama_does(ollama: OllamaStandin) -> None:
    from ollama import ResponseError

    client = client_of(ollama)
    with pytest.raises(ResponseError, match="model 'llama' not found") as missing:
        client.generate("llama", "Hello")
    assert missing.value.status_code == 404
    with pytest.raises(ResponseError, match="does not support thinking"):
        client.generate(MODEL, "Hello", think=True)
    with pytest.raises(ResponseError, match="raw mode does not support"):
        client.generate(MODEL, "Hello", raw=True, system="Be short.")
    with pytest.raises(ResponseError, match="file does not exist"):
        list(client.pull("nothing", stream=True))
    with OllamaStandin(fail_after=2) as failing, pytest.raises(ResponseError, match="error was encountered"):
        list(client_of(failing).generate(MODEL, "Hello", stream=True))


# The engine, against the stand-in.


def test_each_request_asks_for_what_was_loaded(ollama: OllamaStandin) -> None:
    session = load(ollama)
    for number, form in enumerate(("plain", "chat"), start=1):
        generation = session.generate(Prompt(0, "Why is it blue?", (), form), 6, "length", time.perf_counter)  # type: ignore[arg-type]
        assert (generation.text, generation.output_tokens, generation.error) == (said(6), 6, None)
        assert len([tokens for tokens in generation.event_tokens if tokens]) == 6
        assert generation.finish_reason == "length"
        assert ollama.loads == 1, f"request {number} loaded the model again"
    assert session.values()["context_tokens"] == 512
    session.close()


def test_plain_prompts_are_raw_and_counted_with_their_beginning(ollama: OllamaStandin) -> None:
    session = load(ollama)
    generation = session.generate(Prompt(0, "Why is it blue?", ()), 4, "length", time.perf_counter)
    assert generation.prompt_tokens == 5
    assert generation.token_source == "usage"
    assert {"server_total_s", "server_load_s", "server_prefill_s", "server_decode_s"} <= generation.values.keys()
    (body,) = [body for body in ollama.bodies("/api/generate") if "prompt" in body]
    assert body["raw"] is True and body["think"] is False and body["truncate"] is False
    assert body["options"] == {"num_ctx": 512, "num_predict": 4, "temperature": 0, "seed": 0, "stop": []}


def test_requests_without_log_probabilities_are_the_same_to_the_byte() -> None:
    off, on = (OllamaWire("http://x", MODEL, {"num_ctx": 512}, log_probabilities=asked) for asked in (False, True))
    prompt = Prompt(0, "Hi", ())
    assert off.body(prompt, 4, "eos") == (
        b'{"model":"gemma3:270m","stream":true,"think":false,"truncate":false,"keep_alive":"10m","prompt":"Hi","raw":true,'
        b'"options":{"num_ctx":512,"num_predict":4,"temperature":0,"seed":0}}'
    )
    assert json.loads(on.body(prompt, 4, "eos")) == json.loads(off.body(prompt, 4, "eos")) | {"logprobs": True}


def test_sampling_is_said_in_full_and_ends_with_its_case() -> None:
    wire = OllamaWire("http://x", MODEL, {"num_ctx": 512})
    sampled = CASE.model_copy(update={"sampling": Sampling(temperature=0.5, top_p=0.8, repetition_penalty=1.1, seed=3)})

    def options(case: Case) -> object:
        wire.begin(case)
        return json.loads(wire.body(Prompt(0, "Hi", ()), 4, "eos"))["options"]

    greedy = {"num_ctx": 512, "num_predict": 4, "temperature": 0, "seed": 0}
    assert options(CASE) == greedy
    assert options(sampled) == {
        "num_ctx": 512, "num_predict": 4, "temperature": 0.5, "top_p": 0.8, "top_k": 0, "min_p": 0, "repeat_penalty": 1.1,
        "repeat_last_n": -1, "seed": 3,
    }  # fmt: skip
    assert options(CASE) == greedy


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_log_probabilities(ollama: OllamaStandin, form: PromptFormat) -> None:
    session = Ollama().load(source(ollama), CASE.model_copy(update={"log_probabilities": True}))
    generation = session.generate(Prompt(0, "Hello", (), form), 6, "length", time.perf_counter)
    session.close()
    assert generation.values["mean_log_probability"] == pytest.approx(sum(map(log_probability, range(6))) / 6)


@pytest.mark.parametrize(
    ("version", "refused"), [("0.12.10", True), ("0.9.6-rc1", True), ("0.13.0-rc0", False), ("0.0.0", False)]
)
def test_a_version_without_log_probabilities_is_refused(version: str, refused: bool) -> None:
    with OllamaStandin(version=version) as standin:
        if not refused:
            Ollama().load(source(standin), CASE.model_copy(update={"log_probabilities": True})).close()
            return
        with pytest.raises(UnsupportedError, match=f"Ollama {version} has no log-probabilities: update it"):
            Ollama().load(source(standin), CASE.model_copy(update={"log_probabilities": True}))
        assert standin.bodies("/api/generate") == []
        Ollama().load(source(standin), CASE).close()


def test_an_early_end_is_told(ollama: OllamaStandin) -> None:
    ollama.eos_after = 3
    generation = load(ollama).generate(Prompt(0, "Hello", ()), 8, "length", time.perf_counter)
    assert (generation.output_tokens, generation.finish_reason) == (3, "stop")


def test_what_goes_wrong_is_an_error_of_the_request() -> None:
    with OllamaStandin(fail_after=2) as failing:
        generation = load(failing).generate(Prompt(0, "Hello", ()), 8, "length", time.perf_counter)
        assert generation.error and generation.error.startswith("server_error:")
        assert generation.text == said(2)
    with OllamaStandin(forgetful=True) as forgetful:
        assert load(forgetful).generate(Prompt(0, "Hello", ()), 8, "length", time.perf_counter).error
    with OllamaStandin() as standin:
        session = load(standin)
        long = session.generate(Prompt(0, "word " * 600, ()), 8, "length", time.perf_counter)
        assert long.error and long.error.startswith("http_4xx:")
        with pytest.raises(UnsupportedError, match="no empty prompt"):
            session.generate(Prompt(0, "", ()), 8, "length", time.perf_counter)


def test_history_comes_in_turn() -> None:
    wire = OllamaWire("http://127.0.0.1:1", MODEL, {"num_ctx": 512})
    history = ("Hello", "Hi")
    chat = json.loads(wire.body(Prompt(0, "And?", (), "chat"), 5, "eos", history))
    assert [(one["role"], one["content"]) for one in chat["messages"]] == [
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "And?"),
    ]
    assert "stop" not in chat["options"]
    assert json.loads(wire.body(Prompt(0, "And?", ()), 5, "eos", history))["prompt"] == "HelloHi\nAnd?"
    assert wire.endpoint("plain").url.endswith(":1/api/generate") and wire.endpoint("chat").url.endswith(":1/api/chat")
    assert (wire.dialect("plain"), wire.dialect("chat")) == ("ollama-generate", "ollama-chat")


def test_a_model_that_was_not_loaded_leaves_again(ollama: OllamaStandin) -> None:
    session = load(ollama)
    assert list(ollama.loaded) == [MODEL]
    session.close()
    assert ollama.loaded == {}


def test_a_model_that_was_loaded_is_loaded_anew_and_stays(ollama: OllamaStandin) -> None:
    ollama.answer("/api/generate", {"model": MODEL, "options": {"num_ctx": 99}})
    session = load(ollama)
    assert ollama.loads == 2
    session.close()
    assert list(ollama.loaded) == [MODEL]


def test_closing_does_not_mind_a_server_that_has_ended() -> None:
    with OllamaStandin() as standin:
        session = load(standin)
    session.close()


def test_facts_of_the_model(ollama: OllamaStandin) -> None:
    facts = model_facts(ServerCalls(ollama.url), MODEL)
    assert facts["server_version"] == "0.12.11"
    assert facts["server_quantization"] == "Q8_0"
    assert facts["server_model_context"] == 32768
    assert len(str(facts["server_model_digest"])) == 64


def test_facts_of_two_models_of_one_server_are_kept_apart() -> None:
    with OllamaStandin(installed=(MODEL, "gemma3:1b")) as standin:
        told = [("ollama", source(standin, model)) for model in (MODEL, "gemma3:1b")]
        facts = environment(["ollama"], told).facts
    digests = {facts[f"here {model} server_model_digest"] for model in (MODEL, "gemma3:1b")}
    assert (facts["here server_version"], len(digests)) == ("0.12.11", 2)


@pytest.mark.parametrize(
    "answer", [{}, [], 3, {"version": None}, {"version": "1", "models": [3]}, {"version": "1", "models": {}}]
)
def test_another_server_than_ollama_is_said(answer: object) -> None:
    with JsonStandin({path: (200, answer) for path in ("/api/version", "/api/tags", "/api/ps")}) as other:
        named = Source(server=Server("here", other.url, "ollama"), model=MODEL)
        with pytest.raises(ServerError, match=r"answered /api/[a-z]* as no server of its kind|has no model"):
            Ollama().load(named, CASE)
        assert Ollama.facts(named) == {}


@pytest.mark.parametrize("line", ["3", "null", "[]", '"x"'])
def test_a_line_that_is_no_object_is_said(line: str) -> None:
    with (
        JsonStandin({"/api/pull": (200, f"{line}\n".encode())}) as other,
        pytest.raises(ServerError, match="something else than JSON lines"),
    ):
        pull(other.url, "gemma3:1b", lambda *_: None)


def test_a_line_with_an_error_does_not_repeat_the_key() -> None:
    with JsonStandin({"/api/pull": (200, {"error": "who is Bearer sk-0123456789\x1b[2J?"})}) as other:
        calls = ServerCalls(other.url, "here", {"Authorization": "Bearer sk-0123456789"})
        with pytest.raises(ServerError) as failed:
            list(calls.lines("/api/pull", {}))
    assert "who is" in str(failed.value)
    assert "sk-0123456789" not in str(failed.value) and str(failed.value).isprintable()


@pytest.mark.parametrize(
    ("model", "name"), [("gemma3", "gemma3:latest"), ("gemma3:1b", "gemma3:1b"), ("a.b:5/me/x", "a.b:5/me/x:latest")]
)
def test_names_without_a_tag_mean_the_latest(model: str, name: str) -> None:
    assert full_name(model) == name


def test_a_missing_model_is_refused_with_its_remedy(ollama: OllamaStandin) -> None:
    with pytest.raises(ServerError, match=r"did you mean 'gemma3:270m'\? `ollama pull gemma3:27b` fetches it") as missing:
        Ollama().load(source(ollama, "gemma3:27b"), CASE)
    assert missing.value.kind == "missing_weights"


def test_no_server_is_refused_with_its_remedy() -> None:
    with OllamaStandin() as standin:
        gone = source(standin)
    with pytest.raises(ServerError, match=r"The server here does not answer: nothing listens on port \d+: start it"):
        Ollama().load(gone, CASE)


def test_a_folder_without_a_tokenizer_is_refused(ollama: OllamaStandin, tmp_path) -> None:  # type: ignore[no-untyped-def]
    named = Source(server=Server("here", ollama.url, "ollama", tokenizer=str(tmp_path)), model=MODEL)
    with pytest.raises(UnsupportedError, match="holds no tokenizer"):
        Ollama().load(named, CASE)


def test_a_pull_tells_its_progress(ollama: OllamaStandin) -> None:
    steps: list[tuple[str, int | None, int | None]] = []
    pull(ollama.url, "gemma3:1b", lambda *step: steps.append(step))
    assert steps[0] == ("pulling manifest", None, None) and steps[-1][0] == "success"
    assert [done for _, done, total in steps if total == 5000] == [None, 2500, 5000]
    assert "gemma3:1b" in ollama.installed


def test_a_pull_that_fails_says_so(ollama: OllamaStandin) -> None:
    with pytest.raises(ServerError, match="file does not exist"):
        pull(ollama.url, "gemma9", lambda *_: None)


def test_an_unload_that_never_comes_is_given_up(ollama: OllamaStandin) -> None:
    waits: list[float] = []
    calls = ServerCalls(ollama.url, "here")
    ollama.answer("/api/generate", {"model": MODEL})

    def load_again(seconds: float) -> None:
        waits.append(seconds)
        ollama.answer("/api/generate", {"model": MODEL})

    unload(calls, MODEL, load_again)
    assert waits == []
    ollama.answer("/api/generate", {"model": MODEL})
    stubborn = ollama.loaded
    ollama.loaded = _Stubborn(stubborn)
    with pytest.raises(ServerError, match="keeps 'gemma3:270m' in memory"):
        unload(calls, MODEL, load_again)
    assert 30 <= sum(waits) < 31
    assert running(calls, MODEL) is not None


class _Stubborn(dict):  # type: ignore[type-arg]
    def pop(self, *_: object) -> None:
        return None
